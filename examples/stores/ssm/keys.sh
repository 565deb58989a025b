#!/bin/sh
# A parameter's name is the key. Region, credentials and endpoint are found as
# AWS's own tools find them.
set -e
put() { aws ${AWS_ENDPOINT_URL:+--endpoint-url "$AWS_ENDPOINT_URL"} ssm put-parameter --type "$1" --name "$2" --value "$3"; }
put String /services/web/1 10.0.0.1:80
put SecureString /config/web/timeout 5s
