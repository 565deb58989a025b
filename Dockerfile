# The edge balancer, and with other words behind it every other role: sidekick,
# template, confd. "make rootfs" first.
#
#   docker run -p 80:8080 -e MUSTER_STORE=etcd://etcd:2379 muster
#   docker run -e MUSTER_STORE=etcd://etcd:2379 muster sidekick web -addr web1:8080
#   docker run --entrypoint /confd muster -version
FROM scratch
COPY rootfs/ /
# What shall outlive a restart is kept here, and with a volume it outlives the
# container too. As in /tmp any user may write.
ENV MUSTER_STATE=/state
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/muster"]
CMD ["proxy"]
