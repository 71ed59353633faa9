"""Provider for Airflow 3.1 or newer: operators for pods. Needs the extra ``airflow``; see ``README.md``."""
