"""Example pipelines; run them with ``python -m primepods.airflow.demo``."""
