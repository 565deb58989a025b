#!/bin/sh
curl -fsS -H "X-Vault-Token: $VAULT_TOKEN" -d '{"data": {"value": "10.0.0.2:80"}}' \
	"http://${VAULT:-127.0.0.1:8200}/v1/secret/data/services/web/2"
