# Locust's own image with the load test of this project and what that imports. Airflow is not in it.
ARG LOCUST_IMAGE_NAME=locustio/locust:2.47.0
FROM ${LOCUST_IMAGE_NAME}
USER root
WORKDIR /opt/loadtest
COPY requirements/loadtest.txt requirements.txt
# That file has the same version of Locust as the image, so pip leaves the installed one as it is.
RUN pip install --quiet --no-cache-dir --no-deps --require-hashes -r requirements.txt \
    && mkdir logs && chmod 777 logs
COPY patterns patterns
COPY worker_init worker_init
COPY rig rig
COPY loadtest loadtest
ENV PYTHONPATH=/opt/loadtest PYTHONDONTWRITEBYTECODE=1
RUN python -c 'import loadtest.watch, rig.load.summary'
USER 50000:0
ENTRYPOINT ["locust", "-f", "loadtest/locustfile.py", "--results", "logs/loadtest"]
CMD ["--web-host", "0.0.0.0"]
