#!/bin/sh
# Keeps the interrupts of a network card, and the queues that send on it, on some cores, so that the others are left to
# the executors of sls2siem.
#
#   irq-xps.sh eth0 0-1          interrupts and transmit queues of eth0 to cores 0 and 1
#   irq-xps.sh eth0 --undo       what was there before the first call
#
# Why: an interrupt on an executor's core stops it, empties its caches, and its time counts as nobody's. A transmit queue
# per core (XPS) lets the core that writes also be the one that completes the write.
# Effect: not measured here; loopback, which the numbers of README.md are from, has neither interrupts nor queues.
# Undo: --undo, or a reboot. irqbalance moves interrupts back: stop it, or ban the card's (IRQBALANCE_BANNED_CPULIST).
set -eu

iface=${1:?usage: irq-xps.sh INTERFACE CORES|--undo}
cores=${2:?usage: irq-xps.sh INTERFACE CORES|--undo}
saved=/run/irq-xps.$iface

[ -d "/sys/class/net/$iface" ] || { echo "there is no interface $iface" >&2; exit 1; }

# Files that hold a core list: of each interrupt of the card, and of each of its transmit queues.
lists() {
  for irq in "/sys/class/net/$iface/device/msi_irqs"/*; do
    [ -e "$irq" ] && echo "/proc/irq/${irq##*/}/smp_affinity_list"
  done
}

if [ "$cores" = --undo ]; then
  [ -e "$saved" ] || { echo "nothing was changed" >&2; exit 1; }
  while read -r file value; do
    [ "$value" = - ] && value=
    echo "$value" > "$file" || echo "cannot restore $file" >&2
  done < "$saved"
  rm "$saved"
  exit 0
fi

# A list such as 0-1,4 as the hexadecimal mask that XPS wants (up to 32 cores; beyond, leave XPS to the driver).
mask() {
  bits=0
  for part in $(echo "$1" | tr , ' '); do
    from=${part%-*}; to=${part#*-}
    while [ "$from" -le "$to" ]; do
      [ "$from" -lt 32 ] && bits=$((bits | 1 << from))
      from=$((from + 1))
    done
  done
  printf %x "$bits"
}

put() {
  [ -w "$1" ] || return 0
  old=$(cat "$1")
  [ -e "$saved.done" ] || echo "$1 ${old:--}" >> "$saved"
  if echo "$2" > "$1" 2>/dev/null; then echo "$1: $old -> $2"; else echo "$1: refused (some drivers manage it alone)"; fi
}

[ -e "$saved" ] && touch "$saved.done"
for file in $(lists); do put "$file" "$cores"; done
for queue in "/sys/class/net/$iface/queues"/tx-*; do put "$queue/xps_cpus" "$(mask "$cores")"; done
rm -f "$saved.done"
