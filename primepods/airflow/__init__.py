"""Provider for Airflow 3, with operators for pods; needs the extra ``airflow``. See ``README.md``."""
