#!/bin/sh
# An item is a key: its attribute "key" the name, "value" the text. Region,
# credentials and endpoint are found as AWS's own tools find them.
set -e
dynamodb() { aws ${AWS_ENDPOINT_URL:+--endpoint-url "$AWS_ENDPOINT_URL"} dynamodb "$@"; }
put() { dynamodb put-item --table-name keys --item "{\"key\": {\"S\": \"$1\"}, \"value\": {\"S\": \"$2\"}}"; }
dynamodb create-table --table-name keys --billing-mode PAY_PER_REQUEST \
	--attribute-definitions AttributeName=key,AttributeType=S --key-schema AttributeName=key,KeyType=HASH
dynamodb wait table-exists --table-name keys
put /services/web/1 10.0.0.1:80
put /config/web/timeout 5s
