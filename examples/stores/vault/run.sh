#!/bin/sh
# The engine is mounted at secret/, which is no part of the names in the template.
# Vault tells of no changes: it is read every 2 s, or every 10 without -interval.
exec confd -watch -interval 2 -backend vault -node "http://${VAULT:-127.0.0.1:8200}" \
	-auth-type token -auth-token "$VAULT_TOKEN" -prefix /secret -confdir .
