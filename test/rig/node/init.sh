#!/bin/bash
# PID 1 of a node, in mount, PID, network and UTS namespaces of its own (test/rig/node.ts): nothing that it mounts, starts or
# sets outlives it or is seen outside. Arguments: the node's folder, its name, its cgroup, its address, folder of containerd,
# path of the kubelet, path of kube-proxy. It says on its output how far it is.
set -u
FOLDER=$1 NAME=$2 CGROUP=$3 ADDRESS=$4 CONTAINERD=$5 KUBELET=$6 PROXY=$7
umask 022
bad() {
  echo "node: $*"
  exit 1
}

mkdir -p "$FOLDER"/{containerd,kubelet,log,lib,lib.work}
mount -t proc proc /proc || bad 'cannot mount /proc'
hostname "$NAME"

# --- what a node has under its usual paths, and the machine does not see
mount -t tmpfs -o mode=755 tmpfs /run || bad 'cannot mount /run'
# The new network namespace needs a sysfs of its own, which hides the machine's cgroups: they go back under it.
mkdir /run/cgroups && mount --rbind /sys/fs/cgroup /run/cgroups || bad 'cannot keep the cgroups'
mount -t sysfs sysfs /sys && mount --rbind /run/cgroups /sys/fs/cgroup || bad 'cannot mount /sys'
umount -l /run/cgroups && rmdir /run/cgroups
mount -t overlay overlay -o "lowerdir=/var/lib,upperdir=$FOLDER/lib,workdir=$FOLDER/lib.work" /var/lib ||
  bad "cannot lay a folder over /var/lib: $FOLDER must not lie on an overlay file system"
mkdir -p /var/lib/kubelet /var/lib/cni
mount --bind "$FOLDER/kubelet" /var/lib/kubelet && mount --bind "$FOLDER/log" /var/log || bad 'cannot bind folders'
# The kubelet wants these for the whole machine. It is shown files that say so, and the machine keeps its own.
mkdir /run/sysctl
for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
  kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
  file=/run/sysctl/$(echo "${setting%=*}" | tr / .)
  echo "${setting#*=}" >"$file"
  mount --bind "$file" "/proc/sys/${setting%=*}" || bad "cannot show $setting"
done
mount --make-rshared /

# --- the cgroup of this node: in every hierarchy of version 1, or in the one of version 2
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
  mkdir -p "/sys/fs/cgroup$CGROUP"
  for controller in $(cat /sys/fs/cgroup/cgroup.controllers); do
    echo "+$controller" >/sys/fs/cgroup/cgroup.subtree_control
  done 2>/dev/null
else
  for hierarchy in /sys/fs/cgroup/*; do
    [ -e "$hierarchy/cgroup.procs" ] || continue
    mkdir -p "$hierarchy$CGROUP"
    # A new cpuset is empty, and nothing can run in it.
    for file in cpuset.cpus cpuset.mems; do
      [ ! -e "$hierarchy/$file" ] || cat "$hierarchy/$file" >"$hierarchy$CGROUP/$file"
    done
  done
fi

# As a service manager does it: what is no pod has a group of its own, so that all of it together is one beside the pods, and not
# each of its processes. The node is a whole machine, not one of the machine's processes.
cores=/sys/fs/cgroup/cpu$CGROUP
[ -d "$cores" ] || cores=/sys/fs/cgroup$CGROUP
mkdir "$cores/system" && echo $$ >"$cores/system/cgroup.procs" || bad 'cannot make a cgroup for what is no pod'
[ ! -e "$cores/cpu.shares" ] || echo $((1024 * $(nproc))) >"$cores/cpu.shares"
[ ! -e "$cores/cpu.weight" ] || echo $((100 * $(nproc))) >"$cores/cpu.weight"

# keep NAME COMMAND…: started again a second after it ends, as a service manager would
keep() {
  local name=$1
  shift
  (
    while :; do
      "$@" >>"$FOLDER/$name.log" 2>&1 </dev/null &
      echo $! >"/run/$name.pid"
      wait $!
      sleep 1
    done
  ) &
}

# --- the container runtime
export PATH=$CONTAINERD:$PATH
keep containerd containerd --config "$FOLDER/containerd.toml" --log-level info
for _ in $(seq 600); do
  ctr version >/dev/null 2>&1 && break
  sleep .1
done
ctr version >/dev/null 2>&1 || bad "containerd does not answer: $(tail -3 "$FOLDER/containerd.log")"
for image in "$FOLDER"/images/*.tar; do
  ctr -n k8s.io images import "$image" >/dev/null 2>"$FOLDER/import.log" || bad "image $image: $(tail -3 "$FOLDER/import.log")"
done

# --- the network, once the other end of its link is there
until [ -e "$FOLDER/link" ]; do sleep .05; done
ip link set lo up
# No default route: the machine does not forward, and nothing in a pod should even try to leave.
ip addr add "$ADDRESS/30" dev eth0 && ip link set eth0 up || bad 'cannot set up eth0'
echo 1 >/proc/sys/net/ipv4/ip_forward
echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables

# --- Kubernetes, once the API server is there
until [ -e "$FOLDER/go" ]; do sleep .05; done
keep kubelet "$KUBELET" --config="$FOLDER/kubelet.json" --kubeconfig="$FOLDER/kubelet.kubeconfig" \
  --root-dir=/var/lib/kubelet --hostname-override="$NAME" --node-ip="$ADDRESS" --v=2
keep kube-proxy "$PROXY" --config="$FOLDER/kube-proxy.json" --v=1
while :; do wait; sleep 1; done
