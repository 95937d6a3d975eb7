module signet.dev/bench/openload

go 1.24
