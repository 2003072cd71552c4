import { http, plainText, policy, type Row } from '../mesh.ts'

const allow = (...sources: object[]) => [policy('foo/p', { rules: [{ from: sources.map(source => ({ source })) }] })]
const deny = (...sources: object[]) => [policy('foo/p', { action: 'DENY', rules: [{ from: sources.map(source => ({ source })) }] })]
const yes = 'allow foo/p/0'
const no = 'deny no-rule-allows'
const partner = 'spiffe://partner.test/ns/foo/sa/web'
const old = 'spiffe://old.test/ns/foo/sa/web'
const token = (iss: string, sub: string) => http({ claims: { iss, sub } })

export const principalRows: readonly Row[] = [
  ['a principal, exactly', allow({ principals: ['mesh.test/ns/foo/sa/web'] }), http(), yes],
  ['another principal', allow({ principals: ['mesh.test/ns/foo/sa/web'] }), http({ from: 'foo/webb' }), no],
  ['one of several principals', allow({ principals: ['mesh.test/ns/x/sa/y', 'mesh.test/ns/foo/sa/web'] }), http(), yes],
  ['one of several sources', allow({ principals: ['mesh.test/ns/x/sa/y'] }, { principals: ['mesh.test/ns/foo/sa/web'] }), http(), yes],
  ['a prefix', allow({ principals: ['mesh.test/ns/foo/*'] }), http(), yes],
  ['a prefix of part of a name', allow({ principals: ['mesh.test/ns/foo/sa/w*'] }), http(), yes],
  ['a prefix that is not', allow({ principals: ['mesh.test/ns/foo/sa/x*'] }), http(), no],
  ['a suffix', allow({ principals: ['*/ns/foo/sa/web'] }), http(), yes],
  ['a suffix of part of a name', allow({ principals: ['*eb'] }), http(), yes],
  ['a suffix that is not', allow({ principals: ['*/ns/foo/sa/db'] }), http(), no],
  ['presence: any principal', allow({ principals: ['*'] }), http(), yes],
  ['presence: plain text has none', allow({ principals: ['*'] }), plainText(), no],
  ['a principal is needed: plain text has none', allow({ principals: ['mesh.test/ns/foo/sa/web'] }), plainText(), no],
  ['an ID of another form', allow({ principals: ['mesh.test/web'] }), http({ from: 'spiffe://mesh.test/web' }), yes],
  ['notPrincipals', allow({ notPrincipals: ['mesh.test/ns/foo/sa/web'] }), http(), no],
  ['notPrincipals: another', allow({ notPrincipals: ['mesh.test/ns/foo/sa/web'] }), http({ from: 'foo/db' }), yes],
  ['notPrincipals: none of several may match', allow({ notPrincipals: ['mesh.test/ns/x/sa/y', '*/sa/web'] }), http(), no],
  ['notPrincipals: who has none is none of them', allow({ notPrincipals: ['mesh.test/ns/foo/sa/web'] }), plainText(), yes],
  ['DENY notPrincipals *: plain text', deny({ notPrincipals: ['*'] }), plainText(), 'deny foo/p/0'],
  ['DENY notPrincipals *: mutual TLS', deny({ notPrincipals: ['*'] }), http(), 'allow default'],
  ['fields are ANDed: both', allow({ principals: ['mesh.test/ns/foo/sa/*'], notPrincipals: ['mesh.test/ns/foo/sa/db'] }), http(), yes],
  ['fields are ANDed: one only', allow({ principals: ['mesh.test/ns/foo/sa/*'], notPrincipals: ['mesh.test/ns/foo/sa/db'] }),
    http({ from: 'foo/db' }), no]
]

export const trustDomainRows: readonly Row[] = [
  ['an alias in the policy is the trust domain', allow({ principals: ['old.test/ns/foo/sa/web'] }), http(), yes],
  ['an alias of the caller is the trust domain', allow({ principals: ['mesh.test/ns/foo/sa/web'] }), http({ from: old }), yes],
  ['cluster.local is the trust domain, whatever its name', allow({ principals: ['cluster.local/ns/foo/sa/web'] }), http(), yes],
  ['cluster.local is its aliases too', allow({ principals: ['cluster.local/ns/foo/sa/web'] }), http({ from: old }), yes],
  ['notPrincipals are expanded as well', allow({ notPrincipals: ['old.test/ns/foo/sa/web'] }), http(), no],
  ['source.principal is expanded as well', [
    policy('foo/p', { rules: [{ when: [{ key: 'source.principal', values: ['old.test/ns/foo/sa/web'] }] }] })
  ], http(), yes],
  ['a prefix is expanded as well', allow({ principals: ['old.test/ns/foo/sa/*'] }), http(), yes],
  ['another trust domain is itself', allow({ principals: ['partner.test/ns/foo/sa/web'] }), http({ from: partner }), yes],
  ['and not the own', allow({ principals: ['partner.test/ns/foo/sa/web'] }), http(), no],
  ['differs: * lets in the own domains alone', allow({ principals: ['*'] }), http({ from: partner }), no],
  ['differs: */ns/.. lets in the own domains alone', allow({ principals: ['*/ns/foo/sa/web'] }), http({ from: partner }), no],
  ['*/ns/.. lets in an alias', allow({ principals: ['*/ns/foo/sa/web'] }), http({ from: old }), yes],
  ['* denies every domain', deny({ principals: ['*'] }), http({ from: partner }), 'deny foo/p/0'],
  ['*/ns/.. denies every domain', deny({ principals: ['*/ns/foo/sa/web'] }), http({ from: partner }), 'deny foo/p/0'],
  ['notPrincipals */ns/.. keeps out every domain', allow({ principals: ['*', 'partner.test/*'], notPrincipals: ['*/sa/web'] }),
    http({ from: partner }), no],
  ['differs: DENY notPrincipals * spares the own domains alone', deny({ notPrincipals: ['*'] }), http({ from: partner }), 'deny foo/p/0'],
  ['*-end of an own name is all own names', allow({ principals: ['*ld.test/ns/foo/sa/web'] }), http(), yes],
  ['*-end of no own name lets nobody in', allow({ principals: ['*ner.test/ns/foo/sa/web'] }), http({ from: partner }), no],
  ['begin* of an own name is the own domains', allow({ principals: ['mes*'] }), http({ from: old }), yes],
  ['differs: a namespace lets in the own domains alone', allow({ namespaces: ['foo'] }), http({ from: partner }), no],
  ['a namespace denies every domain', deny({ namespaces: ['foo'] }), http({ from: partner }), 'deny foo/p/0'],
  ['a service account denies every domain', deny({ serviceAccounts: ['foo/web'] }), http({ from: partner }), 'deny foo/p/0']
]

export const namespaceRows: readonly Row[] = [
  ['a namespace, exactly', allow({ namespaces: ['foo'] }), http(), yes],
  ['another namespace', allow({ namespaces: ['foo'] }), http({ from: 'food/web' }), no],
  ['a namespace by prefix', allow({ namespaces: ['fo*'] }), http(), yes],
  ['a namespace by suffix', allow({ namespaces: ['*oo'] }), http(), yes],
  ['any namespace', allow({ namespaces: ['*'] }), http(), yes],
  ['plain text is of no namespace', allow({ namespaces: ['*'] }), plainText(), no],
  ['notNamespaces', allow({ notNamespaces: ['foo'] }), http(), no],
  ['notNamespaces: another', allow({ notNamespaces: ['foo'] }), http({ from: 'bar/web' }), yes],
  ['notNamespaces: plain text is not of it', deny({ notNamespaces: ['foo'] }), plainText(), 'deny foo/p/0'],
  ['a service account of a namespace', allow({ serviceAccounts: ['foo/web'] }), http(), yes],
  ['a service account of the policy\'s namespace', allow({ serviceAccounts: ['web'] }), http(), yes],
  ['which is not another\'s', allow({ serviceAccounts: ['web'] }), http({ from: 'bar/web' }), no],
  ['another service account', allow({ serviceAccounts: ['foo/web'] }), http({ from: 'foo/web2' }), no],
  ['a service account needs mutual TLS', allow({ serviceAccounts: ['web'] }), plainText(), no],
  ['notServiceAccounts', allow({ notServiceAccounts: ['foo/web'] }), http(), no],
  ['notServiceAccounts: another', allow({ notServiceAccounts: ['foo/web'] }), http({ from: 'foo/db' }), yes]
]

export const requestPrincipalRows: readonly Row[] = [
  ['issuer and subject', allow({ requestPrincipals: ['issuer.test/ann'] }), token('issuer.test', 'ann'), yes],
  ['another subject', allow({ requestPrincipals: ['issuer.test/ann'] }), token('issuer.test', 'bob'), no],
  ['any token', allow({ requestPrincipals: ['*'] }), token('issuer.test', 'ann'), yes],
  ['no token', allow({ requestPrincipals: ['*'] }), http(), no],
  ['all subjects of an issuer', allow({ requestPrincipals: ['https://issuer.test/*'] }), token('https://issuer.test', 'ann'), yes],
  ['and of no issuer below it', allow({ requestPrincipals: ['https://issuer.test/*'] }), token('https://issuer.test/evil', 'ann'), no],
  ['a subject of any issuer', allow({ requestPrincipals: ['*/ann'] }), token('https://issuer.test/x', 'ann'), yes],
  ['the end of a subject', allow({ requestPrincipals: ['*@foo.test'] }), token('i', 'ann@foo.test'), yes],
  ['the begin of a subject', allow({ requestPrincipals: ['i/an*'] }), token('i', 'ann'), yes],
  ['the begin of an issuer', allow({ requestPrincipals: ['iss*'] }), token('issuer', 'ann'), yes],
  ['one of several', allow({ requestPrincipals: ['a/x', 'b/y', 'b/z'] }), token('b', 'z'), yes],
  ['issuer of one and subject of another', allow({ requestPrincipals: ['a/x', 'b/y'] }), token('a', 'y'), no],
  ['notRequestPrincipals', allow({ notRequestPrincipals: ['a/x'] }), token('a', 'x'), no],
  ['notRequestPrincipals: same issuer', allow({ notRequestPrincipals: ['a/x'] }), token('a', 'y'), yes],
  ['notRequestPrincipals: issuer of one and subject of another', allow({ notRequestPrincipals: ['a/x', 'b/y'] }), token('a', 'y'), yes],
  ['notRequestPrincipals: no token', allow({ notRequestPrincipals: ['*'] }), http(), yes],
  ['DENY notRequestPrincipals *: no token', deny({ notRequestPrincipals: ['*'] }), http(), 'deny foo/p/0'],
  ['DENY notRequestPrincipals *: a token', deny({ notRequestPrincipals: ['*'] }), token('a', 'x'), 'allow default'],
  ['ANDed with the caller', allow({ requestPrincipals: ['*'], principals: ['mesh.test/ns/foo/sa/db'] }), token('a', 'x'), no]
]

export const addressRows: readonly Row[] = [
  ['an address', allow({ ipBlocks: ['10.0.0.1'] }), http(), yes],
  ['another address', allow({ ipBlocks: ['10.0.0.1'] }), http({ ip: '10.0.0.2' }), no],
  ['a network', allow({ ipBlocks: ['10.0.0.0/16'] }), http({ ip: '10.0.255.1' }), yes],
  ['a network that is not', allow({ ipBlocks: ['10.0.0.0/16'] }), http({ ip: '10.1.0.1' }), no],
  ['bits below the mask are nothing', allow({ ipBlocks: ['10.0.7.7/16'] }), http({ ip: '10.0.255.1' }), yes],
  ['IPv6', allow({ ipBlocks: ['2001:db8::/32'] }), http({ ip: '2001:db8:1::5' }), yes, { rawOracle: false }],
  ['IPv6 is not IPv4', allow({ ipBlocks: ['::/0'] }), http(), no, { rawOracle: false }],
  ['notIpBlocks', allow({ notIpBlocks: ['10.0.0.0/8'] }), http(), no],
  ['notIpBlocks: another', allow({ notIpBlocks: ['10.0.0.0/8'] }), http({ ip: '192.0.2.1' }), yes],
  ['ipBlocks are of the connection, not of the first caller', allow({ ipBlocks: ['192.0.2.1'] }), http({ remoteIp: '192.0.2.1' }), no],
  ['remoteIpBlocks are of the first caller', allow({ remoteIpBlocks: ['192.0.2.0/24'] }), http({ remoteIp: '192.0.2.1' }), yes],
  ['who is the connection\'s when nobody tells another', allow({ remoteIpBlocks: ['10.0.0.0/8'] }), http(), yes],
  ['notRemoteIpBlocks', allow({ notRemoteIpBlocks: ['192.0.2.0/24'] }), http({ remoteIp: '192.0.2.1' }), no],
  ['principals, namespaces and addresses are ANDed: all',
    allow({ principals: ['*/sa/web'], namespaces: ['foo'], notIpBlocks: ['203.0.113.4'] }),
    http(), yes],
  ['principals, namespaces and addresses are ANDed: not the address',
    allow({ principals: ['*/sa/web'], namespaces: ['foo'], notIpBlocks: ['203.0.113.4'] }), http({ ip: '203.0.113.4' }), no]
]
