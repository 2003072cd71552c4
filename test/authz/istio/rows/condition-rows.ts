import { http, plainText, policy, tcp, type Row } from '../mesh.ts'

const when = (...conditions: object[]) => [policy('foo/p', { rules: [{ when: conditions }] })]
const one = (key: string, ...values: string[]) => when({ key, values })
const not = (key: string, ...notValues: string[]) => when({ key, notValues })
const yes = 'allow foo/p/0'
const no = 'deny no-rule-allows'
const claims = {
  iss: 'i', sub: 's', aud: ['a', 'b'], azp: 'p', groups: ['dev', 'ops'], scope: 'read write', role: 'read write',
  nested: { deep: ['x'] }
}

export const conditionRows: readonly Row[] = [
  ['a header', one('request.headers[x-test]', 'one'), http({ headers: { 'x-test': 'one' } }), yes],
  ['a header\'s name whatever its case', one('request.headers[X-Test]', 'one'), http({ headers: { 'x-test': 'one' } }), yes],
  ['a header\'s value has a case', one('request.headers[x-test]', 'One'), http({ headers: { 'x-test': 'one' } }), no],
  ['a header by prefix', one('request.headers[User-Agent]', 'Mozilla/*'), http({ headers: { 'user-agent': 'Mozilla/5.0' } }), yes],
  ['a header that is there', one('request.headers[x-test]', '*'), http({ headers: { 'x-test': 'x' } }), yes],
  ['a header that is not there', one('request.headers[x-test]', '*'), http(), no],
  ['notValues of a header', not('request.headers[x-test]', 'one'), http({ headers: { 'x-test': 'one' } }), no],
  ['notValues of a header that is not there', not('request.headers[x-test]', 'one'), http(), yes],
  ['values and notValues are ANDed', when({ key: 'request.headers[x-test]', values: ['o*'], notValues: ['one'] }),
    http({ headers: { 'x-test': 'one' } }), no],
  ['values of which notValues take away none', when({ key: 'request.headers[x-test]', values: ['o*'], notValues: ['one'] }),
    http({ headers: { 'x-test': 'other' } }), yes],
  ['all conditions are needed', when({ key: 'destination.port', values: ['80'] }, { key: 'source.ip', values: ['10.1.0.0/16'] }),
    http(), no],
  ['all conditions, all there', when({ key: 'destination.port', values: ['80'] }, { key: 'source.ip', values: ['10.0.0.0/16'] }),
    http(), yes],
  ['source.ip', one('source.ip', '10.0.0.1'), http({ remoteIp: '192.0.2.1' }), yes],
  ['source.ip: another', one('source.ip', '10.0.0.2'), http(), no],
  ['remote.ip', one('remote.ip', '192.0.2.0/24'), http({ remoteIp: '192.0.2.1' }), yes],
  ['remote.ip: not so', not('remote.ip', '192.0.2.0/24'), http({ remoteIp: '192.0.2.1' }), no],
  ['source.namespace', one('source.namespace', 'foo'), http(), yes],
  ['source.namespace: another', one('source.namespace', 'bar'), http(), no],
  ['source.namespace on TCP', one('source.namespace', 'foo'), tcp(), yes],
  ['source.principal', one('source.principal', 'mesh.test/ns/foo/sa/web'), http(), yes],
  ['source.principal: not so', not('source.principal', '*/sa/web'), http(), no],
  ['source.principal: plain text', one('source.principal', '*'), plainText(), no],
  ['source.serviceAccount', one('source.serviceAccount', 'foo/web'), http(), yes],
  ['request.auth.principal', one('request.auth.principal', 'i/s'), http({ claims }), yes],
  ['request.auth.principal: another', one('request.auth.principal', 'i/t', 'j/s'), http({ claims }), no],
  ['request.auth.principal: not so', not('request.auth.principal', 'i/s'), http({ claims }), no],
  ['request.auth.principal: no token', not('request.auth.principal', '*'), http(), yes],
  ['request.auth.audiences', one('request.auth.audiences', 'b'), http({ claims }), yes],
  ['request.auth.audiences: another', one('request.auth.audiences', 'c'), http({ claims }), no],
  ['request.auth.audiences: not so', not('request.auth.audiences', 'a'), http({ claims }), no],
  ['request.auth.presenter', one('request.auth.presenter', 'p'), http({ claims }), yes],
  ['request.auth.presenter: no token', one('request.auth.presenter', 'p'), http(), no],
  ['a claim', one('request.auth.claims[iss]', 'i'), http({ claims }), yes],
  ['a claim by suffix', one('request.auth.claims[email]', '*@foo.test'), http({ claims: { email: 'ann@foo.test' } }), yes],
  ['one of a claim\'s list', one('request.auth.claims[groups]', 'ops'), http({ claims }), yes],
  ['none of a claim\'s list', one('request.auth.claims[groups]', 'boss'), http({ claims }), no],
  ['notValues of a claim\'s list', not('request.auth.claims[groups]', 'ops'), http({ claims }), no],
  ['a claim inside a claim', one('request.auth.claims[nested][deep]', 'x'), http({ claims }), yes],
  ['a claim that is not there', one('request.auth.claims[other]', '*'), http({ claims }), no],
  ['a word of the scope', one('request.auth.claims[scope]', 'write'), http({ claims }), yes],
  ['the scope is no single text', one('request.auth.claims[scope]', 'read write'), http({ claims }), no],
  ['other claims are', one('request.auth.claims[role]', 'read write'), http({ claims }), yes],
  ['and have no words', one('request.auth.claims[role]', 'read'), http({ claims }), no],
  ['destination.ip', one('destination.ip', '10.9.0.0/16'), http(), yes],
  ['destination.ip: another', one('destination.ip', '10.8.0.0/16'), http(), no],
  ['destination.port', one('destination.port', '80', '443'), http(), yes],
  ['destination.port: not so', not('destination.port', '80'), http(), no],
  ['connection.sni', one('connection.sni', 'www.example.com'), tcp({ sni: 'www.example.com' }), yes],
  ['connection.sni: another', one('connection.sni', '*.example.com'), tcp({ sni: 'www.example.org' }), no],
  ['connection.sni: none sent', one('connection.sni', '*'), tcp(), no],
  ['connection.sni: not so, none sent', not('connection.sni', 'x'), tcp(), yes],
  ['a rule needs a source, an operation and all conditions', [policy('foo/p', { rules: [{
    from: [{ source: { namespaces: ['foo'] } }],
    to: [{ operation: { methods: ['GET'] } }],
    when: [{ key: 'request.auth.claims[iss]', values: ['i'] }]
  }] })], http({ claims }), yes],
  ['and is none without the condition', [policy('foo/p', { rules: [{
    from: [{ source: { namespaces: ['foo'] } }],
    to: [{ operation: { methods: ['GET'] } }],
    when: [{ key: 'request.auth.claims[iss]', values: ['j'] }]
  }] })], http({ claims }), no]
]
