"""Pipelines to look at, and to try with ``python -m primepods.airflow.demo``."""
