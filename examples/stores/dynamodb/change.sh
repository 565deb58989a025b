#!/bin/sh
aws ${AWS_ENDPOINT_URL:+--endpoint-url "$AWS_ENDPOINT_URL"} dynamodb put-item --table-name keys \
	--item '{"key": {"S": "/services/web/2"}, "value": {"S": "10.0.0.2:80"}}'
