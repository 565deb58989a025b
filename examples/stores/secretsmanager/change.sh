#!/bin/sh
aws ${AWS_ENDPOINT_URL:+--endpoint-url "$AWS_ENDPOINT_URL"} secretsmanager create-secret --name services/web/2 --secret-string 10.0.0.2:80
