"""Airflow provider for pods, for Airflow 3; needs the extra ``airflow``. See ``README.md`` in this folder."""
