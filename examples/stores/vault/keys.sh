#!/bin/sh
# As "vault kv put secret/services/web/1 value=10.0.0.1:80" does, in an engine of
# version 2. A lone "value" is the value of a key; other fields are keys below it.
put() {
	curl -fsS -H "X-Vault-Token: $VAULT_TOKEN" -d "{\"data\": $2}" \
		"http://${VAULT:-127.0.0.1:8200}/v1/secret/data/$1"
}
put services/web/1 '{"value": "10.0.0.1:80"}'
put config/web '{"timeout": "5s"}'
