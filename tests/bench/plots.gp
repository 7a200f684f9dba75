# SPDX-License-Identifier: Apache-2.0
# The plots of docs/bench. Called by publish.py with kind (svg or png), work (the folder of the
# data) and folder (where the plots go).
if (kind eq "svg") {
	set terminal svg size 860,420 font "sans-serif,12" background "white"
} else {
	set terminal pngcairo size 1290,630 font "sans,13" background "white"
}
place(name) = folder . "/" . name . "." . kind
data(name) = work . "/" . name . ".dat"
set grid ytics lc rgb "#dddddd"
set border 3
set tics nomirror
set style fill solid 0.85 border -1
set boxwidth 0.38
set xtics rotate by -25
ours = "#1f6f8b"
theirs = "#c8963e"

set output place("round_trip")
set title "64 B round trip, one pair (bars: least and most of the rounds)"
set ylabel "us"
set yrange [1:*]
set logscale y
set xrange [-0.6:*]
plot data("round_trip") using ($0-0.2):2:xtic(1) with boxes lc rgb ours title "p50", \
	"" using ($0-0.2):2:3:4 with yerrorbars lc rgb "black" pt 0 notitle, \
	"" using ($0+0.2):5 with boxes lc rgb theirs title "p99", \
	"" using ($0+0.2):5:6:7 with yerrorbars lc rgb "black" pt 0 notitle

set output place("mixed")
set title "100 pairs that chat beside one bulk pair"
plot data("mixed") using ($0-0.2):2:xtic(1) with boxes lc rgb ours title "p50", \
	"" using ($0-0.2):2:3:4 with yerrorbars lc rgb "black" pt 0 notitle, \
	"" using ($0+0.2):5 with boxes lc rgb theirs title "p99", \
	"" using ($0+0.2):5:6:7 with yerrorbars lc rgb "black" pt 0 notitle

unset logscale y
set yrange [0:*]
set output place("tls")
set title "64 B round trip with TLS, one pair, p50"
set boxwidth 0.6
plot data("tls") using 0:2:xtic(1) with boxes lc rgb ours notitle, \
	"" using 0:2:3:4 with yerrorbars lc rgb "black" pt 0 notitle

set output place("joins")
set title "complete joins a second"
set ylabel "joins/s"
set boxwidth 0.25
plot data("joins") using ($0-0.27):2:xtic(1) with boxes lc rgb "#9bbfca" title "1 in flight", \
	"" using 0:3 with boxes lc rgb ours title "64 in flight", \
	"" using ($0+0.27):4 with boxes lc rgb theirs title "storm of 5,000"

set output place("idle")
set title "memory of an idle pair (kernel objects: all four sockets; direct: two)"
set ylabel "KB"
set boxwidth 0.38
plot data("idle") using ($0-0.2):2:xtic(1) with boxes lc rgb ours title "resident, relay", \
	"" using ($0+0.2):3 with boxes lc rgb theirs title "kernel objects"

set key outside right
set xtics norotate
set for [at=1:9] linetype at lc rgb word("#888888 #1f6f8b #4fa3c0 #9bd1e5 #c8563e #c8963e #7a9a3a #8a5aa8 #444444", at) pt at + 3
plain = "direct sockmap splice copy haproxy nginx socat strelaysrv coturn"
tls = "direct-tls handed-off userspace-tls haproxy-tls nginx-tls stunnel"

set output place("bulk")
set title "bulk, one pair: right and low is better"
set xlabel "GB/s"
set ylabel "CPU s/GB"
set xrange [0:*]
plot for [name in plain] data("bulk_" . name) using 2:5:3:4:6:7 with xyerrorbars ps 1.2 title name

set output place("tls_bulk")
set title "bulk with TLS, one pair: right and low is better"
plot for [name in tls] data("bulk_" . name) using 2:5:3:4:6:7 with xyerrorbars ps 1.2 title name

set output place("cpu_per_message")
set title "CPU of the machine a message of 64 B, client included"
set xlabel "pairs"
set ylabel "us"
set logscale x
set xrange [0.8:1300]
plot for [name in plain] data("cpu_" . name) using 1:2 with linespoints lw (name eq "sockmap" ? 3 : 1.5) title name
