module github.com/chatr-dev/chatr

go 1.26
