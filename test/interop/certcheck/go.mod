module assay.test/certcheck

go 1.21
