#!/bin/sh
aws ${AWS_ENDPOINT_URL:+--endpoint-url "$AWS_ENDPOINT_URL"} ssm put-parameter --type String --name /services/web/2 --value 10.0.0.2:80
