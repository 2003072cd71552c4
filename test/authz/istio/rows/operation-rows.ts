import { http, policy, type Row } from '../mesh.ts'

const allow = (...operations: object[]) => [policy('foo/p', { rules: [{ to: operations.map(operation => ({ operation })) }] })]
const deny = (operation: object) => [policy('foo/p', { action: 'DENY', rules: [{ to: [{ operation }] }] })]
const yes = 'allow foo/p/0'
const no = 'deny no-rule-allows'

export const operationRows: readonly Row[] = [
  ['a host', allow({ hosts: ['app.foo'] }), http(), yes],
  ['another host', allow({ hosts: ['app.foo'] }), http({ host: 'app.bar' }), no],
  ['hosts whatever their case: the request\'s', allow({ hosts: ['app.foo'] }), http({ host: 'APP.Foo' }), yes],
  ['hosts whatever their case: the policy\'s', allow({ hosts: ['App.FOO'] }), http(), yes],
  ['a host by suffix', allow({ hosts: ['*.foo'] }), http(), yes],
  ['a host by prefix', allow({ hosts: ['app.*'] }), http(), yes],
  ['any host', allow({ hosts: ['*'] }), http(), yes],
  ['a port in the authority is part of it', allow({ hosts: ['app.foo'] }), http({ host: 'app.foo:8080' }), no],
  ['and is written as such', allow({ hosts: ['app.foo:*'] }), http({ host: 'app.foo:8080' }), yes],
  ['notHosts', allow({ notHosts: ['app.foo'] }), http({ host: 'App.foo' }), no],
  ['notHosts: another', allow({ notHosts: ['app.foo'] }), http({ host: 'app.bar' }), yes],
  ['a port', allow({ ports: ['80'] }), http(), yes],
  ['another port', allow({ ports: ['80'] }), http({ port: 8_080 }), no],
  ['one of several ports', allow({ ports: ['443', '80'] }), http(), yes],
  ['notPorts', allow({ notPorts: ['80'] }), http(), no],
  ['notPorts: another', allow({ notPorts: ['81'] }), http(), yes],
  ['a method', allow({ methods: ['GET', 'HEAD'] }), http({ method: 'HEAD' }), yes],
  ['another method', allow({ methods: ['GET', 'HEAD'] }), http({ method: 'POST' }), no],
  ['methods have a case', allow({ methods: ['get'] }), http(), no],
  ['a method by prefix', allow({ methods: ['P*'] }), http({ method: 'PUT' }), yes],
  ['notMethods', allow({ notMethods: ['DELETE'] }), http({ method: 'DELETE' }), no],
  ['fields are ANDed: both', allow({ methods: ['GET'], paths: ['/info*'] }), http({ path: '/info/x' }), yes],
  ['fields are ANDed: one only', allow({ methods: ['GET'], paths: ['/info*'] }), http({ method: 'PUT', path: '/info/x' }), no],
  ['operations are ORed', allow({ methods: ['GET'], paths: ['/info*'] }, { methods: ['POST'], paths: ['/data'] }),
    http({ method: 'POST', path: '/data' }), yes],
  ['and not mixed', allow({ methods: ['GET'], paths: ['/info*'] }, { methods: ['POST'], paths: ['/data'] }), http({ path: '/data' }), no],
  ['a gRPC call', allow({ methods: ['POST'], paths: ['/shop.v1.Orders/Create'] }),
    http({ method: 'POST', path: '/shop.v1.Orders/Create' }), yes],
  ['a gRPC service', allow({ paths: ['/shop.v1.Orders/*'] }), http({ method: 'POST', path: '/shop.v1.Orders/Cancel' }), yes]
]

export const pathRows: readonly Row[] = [
  ['a path, exactly', allow({ paths: ['/data'] }), http({ path: '/data' }), yes],
  ['and nothing below it', allow({ paths: ['/data'] }), http({ path: '/data/x' }), no],
  ['paths have a case', allow({ paths: ['/data'] }), http({ path: '/Data' }), no],
  ['the query is no part of it', allow({ paths: ['/data'] }), http({ path: '/data?x=/y' }), yes],
  ['a prefix', allow({ paths: ['/info*'] }), http({ path: '/information' }), yes],
  ['a prefix: itself', allow({ paths: ['/info*'] }), http({ path: '/info' }), yes],
  ['a suffix', allow({ paths: ['*.png'] }), http({ path: '/a/b.png' }), yes],
  ['any path', allow({ paths: ['*'] }), http({ path: '/x' }), yes],
  ['notPaths', allow({ notPaths: ['/admin*'] }), http({ path: '/admin/x' }), no],
  ['notPaths: another', allow({ notPaths: ['/admin*'] }), http({ path: '/x' }), yes],
  ['{*} is one segment', allow({ paths: ['/foo/{*}'] }), http({ path: '/foo/bar' }), yes],
  ['{*} is not two', allow({ paths: ['/foo/{*}'] }), http({ path: '/foo/bar/x' }), no],
  ['{*} is not none', allow({ paths: ['/foo/{*}'] }), http({ path: '/foo/' }), no],
  ['{*} in the middle', allow({ paths: ['/foo/{*}/bar'] }), http({ path: '/foo/x/bar' }), yes],
  ['{*} twice', allow({ paths: ['/{*}/v1/{*}'] }), http({ path: '/a/v1/b' }), yes],
  ['{**} is any number of segments', allow({ paths: ['/foo/{**}'] }), http({ path: '/foo/a/b/c' }), yes],
  ['{**} is none as well', allow({ paths: ['/foo/{**}'] }), http({ path: '/foo/' }), yes],
  ['{**} before a literal', allow({ paths: ['/foo/{**}/bar'] }), http({ path: '/foo/a/b/bar' }), yes],
  ['{**} before a literal that is not there', allow({ paths: ['/foo/{**}/bar'] }), http({ path: '/foo/a/b/xbar' }), no],
  ['{**} before a slash', allow({ paths: ['/foo/{**}/'] }), http({ path: '/foo/bar/' }), yes],
  ['{**} before a slash that is not there', allow({ paths: ['/foo/{**}/'] }), http({ path: '/foo/bar' }), no],
  ['{*} then {**}', allow({ paths: ['/foo/{*}/bar/{**}'] }), http({ path: '/foo/x/bar/y/z' }), yes],
  ['a template among notPaths', allow({ notPaths: ['/foo/{*}'] }), http({ path: '/foo/bar' }), no],
  ['differs: a path that servers read differently is let in by no path', allow({ paths: ['/info*'] }),
    http({ path: '/info/../admin' }), no],
  ['differs: and is denied by every path', deny({ paths: ['/admin*'] }), http({ path: '/info/..%2fadmin' }), 'deny foo/p/0']
]
