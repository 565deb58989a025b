#!/bin/sh
# The certificate is renewed.
set -e
openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=example.com -keyout key.pem -out cert.pem 2>/dev/null
aws ${AWS_ENDPOINT_URL:+--endpoint-url "$AWS_ENDPOINT_URL"} acm import-certificate --certificate-arn "$(cat arn)" \
	--certificate fileb://cert.pem --certificate-chain fileb://cert.pem --private-key fileb://key.pem
