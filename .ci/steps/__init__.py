"""What the pipeline's scripts think with: findings in, a verdict out. Standard library only, except
`evidence`, which reads and checks YAML as `radgateway release` does.
"""
