# Locust with the load test of this project: what it imports, and nothing of Airflow.
FROM python:3.12-slim-bookworm
WORKDIR /opt/loadtest
COPY requirements/loadtest.txt requirements.txt
RUN pip install --quiet --no-cache-dir --no-deps --require-hashes -r requirements.txt \
    && mkdir logs && chmod 777 logs
COPY patterns patterns
COPY worker_init worker_init
COPY rig rig
COPY loadtest loadtest
ENV PYTHONPATH=/opt/loadtest PYTHONDONTWRITEBYTECODE=1
RUN python -c 'import loadtest.watch, loadtest.summary'
USER 50000:0
ENTRYPOINT ["locust", "-f", "loadtest/locustfile.py", "--results", "logs/loadtest"]
CMD ["--web-host", "0.0.0.0"]
