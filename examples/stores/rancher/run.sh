#!/bin/sh
# In a container of Rancher no -node is needed: it is rancher-metadata.
exec confd -watch -backend rancher -node "${RANCHER:-rancher-metadata}" -prefix /latest -confdir .
