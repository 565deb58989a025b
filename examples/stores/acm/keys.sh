#!/bin/sh
# A certificate's ARN is its key. A resource names it.
set -e
openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=example.com -keyout key.pem -out cert.pem 2>/dev/null
arn=$(aws ${AWS_ENDPOINT_URL:+--endpoint-url "$AWS_ENDPOINT_URL"} acm import-certificate --output text \
	--certificate fileb://cert.pem --certificate-chain fileb://cert.pem --private-key fileb://key.pem)
echo "$arn" >arn
sed "s|ARN|$arn|" templates/web.in >templates/web.tmpl
sed "s|ARN|$arn|" conf.d/web.in >conf.d/web.toml
