#!/bin/sh
# Pod network of one node: a bridge with the node's pod range, a route to that of every other node, and
# masquerading towards the rest.
nft -f - <<N
table ip podnet
delete table ip podnet
table ip podnet { chain post { type nat hook postrouting priority 90; ip saddr 10.244.0.0/16 ip daddr != 10.244.0.0/16 ip daddr != 10.96.0.0/16 masquerade; }; }
N
T='{{range .items}}{{.metadata.name}} {{if .spec.podCIDR}}{{.spec.podCIDR}}{{else}}-{{end}} {{range .status.addresses}}{{if eq .type "InternalIP"}}{{.address}}{{end}}{{end}}{{"\n"}}{{end}}'
C=/etc/cni/net.d/10-podnet.conflist
round=0
while :; do
  kubectl get nodes -o go-template="$T" > /tmp/nodes || { sleep 0.5; continue; }
  while read -r name range address _; do
    [ "$range" != - ] && [ -n "$address" ] || continue
    if [ "$name" != "$NODE" ]; then
      ip route replace "$range" via "$address"
    elif [ ! -e $C ]; then
      echo '{"cniVersion":"1.0.0","name":"podnet","plugins":[{"type":"bridge","bridge":"cni0","isGateway":true,"isDefaultGateway":true,"hairpinMode":true,"ipMasq":false,"ipam":{"type":"host-local","ranges":[[{"subnet":"'"$range"'"}]],"dataDir":"/run/cni-ipam"}},{"type":"portmap","capabilities":{"portMappings":true}}]}' > $C.new
      mv $C.new $C
      echo "pods: $range"
    fi
  done < /tmp/nodes
  # Nodes join one after the other: look often at first.
  round=$((round + 1))
  [ $round -gt 60 ] && sleep 10 || sleep 1
done
