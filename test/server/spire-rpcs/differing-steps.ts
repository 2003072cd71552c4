import { csr, csrFor, id, partner, publicKey, uid } from './materials.ts'
import { type Differs, type Step, type StepRow, steps } from './step.ts'

const entry = (name: string, more: object = {}) =>
  ({ id: name, spiffeId: id(`/${name}`), parentId: id('/node'), selectors: uid('1'), ...more })
const noTime: Differs = ['INVALID_ARGUMENT', 'a negative time is a mistake; SPIRE takes its default']
const expired = { keyId: 'expired', publicKey, expiresAt: 1 }
const web = { uriSans: ['spiffe://example.org/web'] }

/** What SPIRE does and we do not; last, since nothing may follow from it. */
export const differingSteps: readonly Step[] = [
  ...steps('local', [
    ...['a_b.test', 'A.test', 'a b'].map((name, index): StepRow => ['BatchCreateEntry', `the DNS name ${JSON.stringify(name)}`,
      { entries: [entry(`dns-${index}`, { dnsNames: [name] })] },
      index === 0 ? undefined : [[3], 'strict IDNA has no such label (spire-surface §3.1)']]),
    ['MintX509SVID', 'a DNS name with an underscore', csrFor({ ...web, dnsSans: ['a_b.test'] })],
    ['MintX509SVID', 'a negative ttl', { ...csrFor(web), ttl: -1 }, noTime],
    ['MintJWTSVID', 'a negative ttl', { id: id('/web'), audience: ['a'], ttl: -1 }, noTime],
    ['BatchCreateEntry', 'to be changed', {
      entries: [entry('first', { additionalAttributes: { disableX509SvidPrefetch: true } }), entry('second')]
    }],
    ['BatchUpdateEntry', 'stored, and not fetched before',
      { entries: [entry('first', { storeSvid: true })], inputMask: { storeSvid: true } }, [[3], 'such an entry cannot be created either']],
    ['BatchUpdateEntry', 'into another one', { entries: [entry('first', { spiffeId: id('/second') })], inputMask: { spiffeId: true } },
      [[6], 'two entries alike cannot be created either']],
    ['BatchUpdateFederationRelationship', 'a URL that is none and not named', {
      federationRelationships: [{ trustDomain: 'partner.test', bundleEndpointUrl: 'nothing', httpsWeb: {} }], inputMask: {}
    }, [[0], 'what is not named is not looked at']],
    ['AppendBundle', 'a key ID again, with another time',
      { jwtAuthorities: [{ keyId: 'appended', publicKey }], outputMask: { jwtAuthorities: true } }, ['OK', 'a key ID is in a bundle once']],
    ['BatchCreateFederatedBundle', 'an empty certificate', { bundle: [
      { ...partner, trustDomain: 'hollow.test', x509Authorities: [{ asn1: Buffer.alloc(0) }] }] }, [[0], 'no certificate is none']],
    ...['X509', 'JWT'].flatMap((kind): StepRow[] => [
      [`Prepare${kind}Authority`, 'over a tainted one'],
      [`Get${kind}AuthorityState`, 'prepared over a tainted one', {}, ['OK', 'what is tainted is known until it is revoked']]
    ])
  ]),
  ...steps('/nested', [
    ['NewDownstreamX509CA', 'a negative ttl', { csr, preferredTtl: -1 }, noTime],
    ['PublishJWTAuthority', 'one that has expired', { jwtAuthority: expired }, ['INVALID_ARGUMENT', 'it can verify nothing']]
  ])
]
