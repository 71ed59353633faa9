"""Airflow provider: rent, wait for and delete pods in Airflow 3 (extra ``airflow``); see README.md."""
