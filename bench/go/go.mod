module assay.example/bench

go 1.24
