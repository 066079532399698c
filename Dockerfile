# Taskvisor in a container: `taskvisor control|beat|flower|worker`. A host's worker needs the host's libvirt socket, its network and
# its state directory (docker-compose.yml shows how); the others need Redis alone.
FROM python:3.13-slim-bookworm AS build
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends gcc libc6-dev libvirt-dev pkg-config \
 && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY requirements.lock ./
RUN python -m venv /opt/taskvisor && /opt/taskvisor/bin/pip install -q --no-cache-dir -r requirements.lock
COPY . .
RUN /opt/taskvisor/bin/pip install -q --no-cache-dir --no-deps .

FROM python:3.13-slim-bookworm
# What a worker runs beside libvirt's own QEMU: images, disks, links, filters, DHCP.
RUN apt-get update -qq \
 && apt-get install -y -qq --no-install-recommends \
      libvirt0 qemu-utils e2fsprogs dosfstools mtools dnsmasq-base nftables iproute2 kmod \
 && rm -rf /var/lib/apt/lists/* \
 && mkdir -p -m 0711 /var/lib/taskvisor
COPY --from=build /opt/taskvisor /opt/taskvisor
ENV PATH=/opt/taskvisor/bin:$PATH TASKVISOR_LOG_FORMAT=json
WORKDIR /var/lib/taskvisor
VOLUME /var/lib/taskvisor
ENTRYPOINT ["taskvisor"]
CMD ["--help"]
