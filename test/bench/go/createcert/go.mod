module signet.dev/bench/createcert

go 1.24
