#!/bin/sh
# A secret's name is the key, and the fields of one that is JSON are keys below it.
# Region, credentials and endpoint are found as AWS's own tools find them.
set -e
put() { aws ${AWS_ENDPOINT_URL:+--endpoint-url "$AWS_ENDPOINT_URL"} secretsmanager create-secret --name "$1" --secret-string "$2"; }
put services/web/1 10.0.0.1:80
put config/web '{"timeout": "5s"}'
