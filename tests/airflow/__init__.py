"""The Airflow provider, in a real Airflow."""
