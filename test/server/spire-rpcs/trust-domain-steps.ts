import { bundleOf, junk, partner } from './materials.ts'
import { pages, type Step, type StepRow, steps } from './step.ts'

const endpoint = { bundleEndpointUrl: 'https://partner.test/b', httpsWeb: {} }
const relationship = (trustDomain: string, more: object = {}) => ({ trustDomain, ...endpoint, ...more })
const spiffe = (endpointSpiffeId: string) => ({ httpsWeb: undefined, httpsSpiffe: { endpointSpiffeId } })
const wrong: ReadonlyArray<readonly [what: string, relationship: object]> = [
  ['the own domain', relationship('example.org')],
  ['no domain', relationship('')],
  ['a domain that is none', relationship('Bad')],
  ['no URL', relationship('bad.test', { bundleEndpointUrl: '' })],
  ['a URL that is not https', relationship('bad.test', { bundleEndpointUrl: 'http://a.test' })],
  ['a URL without a host', relationship('bad.test', { bundleEndpointUrl: 'https:///b' })],
  ['a URL with a name and a password', relationship('bad.test', { bundleEndpointUrl: 'https://u:p@a.test' })],
  ['a URL that is none', relationship('bad.test', { bundleEndpointUrl: 'https://a b' })],
  ['no profile', relationship('bad.test', { httpsWeb: undefined })],
  ['no ID of the endpoint', relationship('bad.test', spiffe(''))],
  ['an ID of the endpoint that is none', relationship('bad.test', spiffe('nothing'))],
  ['another domain\'s bundle', relationship('bad.test', { trustDomainBundle: partner })],
  ['a bundle that is none', relationship('bad.test', { trustDomainBundle: bundleOf('bad.test', { x509Authorities: [{ asn1: junk }] }) })]
]
const byId = spiffe('spiffe://partner.test/s')
const ignored = { bundleEndpointUrl: 'https://ignored.test' }
const create = (what: string, ...federationRelationships: object[]) =>
  ['BatchCreateFederationRelationship', what, { federationRelationships }] as const
const updateOf = (what: string, more: object, masks: object = {}) =>
  ['BatchUpdateFederationRelationship', what, { federationRelationships: [relationship('partner.test', more)], ...masks }] as const

/** spire-surface §1.7. */
export const trustDomainSteps: readonly Step[] = [
  ...steps('local', [
    ['ListFederationRelationships', 'none there'],
    ['BatchCreateFederationRelationship', 'none'],
    ['BatchUpdateFederationRelationship', 'none'],
    ['BatchDeleteFederationRelationship', 'none'],
    ...wrong.map(([what, relationship]): StepRow => create(what, relationship)),
    ...wrong.map(([what, relationship]): StepRow => ['BatchUpdateFederationRelationship', what, { federationRelationships: [relationship] },
      what === 'the own domain' ? [[3], 'no domain federates with itself, there or not'] : undefined]),
    create('one, and it again', relationship('partner.test'), relationship('partner.test')),
    create('with a bundle', relationship('four.test', { ...spiffe('spiffe://four.test/s'), trustDomainBundle: bundleOf('four.test') })),
    ['GetFederatedBundle', 'which came with it', { trustDomain: 'four.test', outputMask: {} }],
    ['BatchCreateFederationRelationship', 'masked', {
      federationRelationships: [relationship('five.test')], outputMask: { bundleEndpointUrl: true }
    }],
    create('an endpoint of another domain', relationship('six.test', spiffe('spiffe://other.test/s'))),
    ['BatchUpdateFederationRelationship', 'one that is not there', { federationRelationships: [relationship('none.test')] }],
    updateOf('its URL', { bundleEndpointUrl: 'https://two.test', ...byId }, { inputMask: { bundleEndpointUrl: true } }),
    updateOf('its profile', { ...ignored, ...byId }, { inputMask: { bundleEndpointProfile: true } }),
    updateOf('its bundle', { ...ignored, trustDomainBundle: partner }, { inputMask: { trustDomainBundle: true } }),
    updateOf('nothing', ignored, { inputMask: {} }),
    updateOf('no bundle', {}, { inputMask: { trustDomainBundle: true } }),
    updateOf('all', {}),
    ['GetFederationRelationship', 'no name'],
    ['GetFederationRelationship', 'a bad name', { trustDomain: 'Bad' }],
    ['GetFederationRelationship', 'one that is not there', { trustDomain: 'none.test' }],
    ['GetFederationRelationship', 'the own domain', { trustDomain: 'example.org' }],
    ['GetFederationRelationship', 'one', { trustDomain: 'partner.test' }],
    ['GetFederationRelationship', 'nothing of one', { trustDomain: 'partner.test', outputMask: {} }],
    ['GetFederationRelationship', 'some of one', { trustDomain: 'four.test', outputMask: { bundleEndpointProfile: true } }],
    ['ListFederationRelationships', 'all, masked', { outputMask: { bundleEndpointUrl: true } }],
    ['ListFederationRelationships', 'a token that is none', { pageSize: 1, pageToken: 'x' }],
    ['ListFederationRelationships', 'a negative size', { pageSize: -1, outputMask: {} }]
  ]),
  ...pages('ListFederationRelationships', 2, 3),
  ...steps('local', [
    ['RefreshBundle', 'no name'],
    ['RefreshBundle', 'a bad name', { trustDomain: 'Bad' }],
    ['RefreshBundle', 'one that is not there', { trustDomain: 'none.test' }],
    ['BatchDeleteFederationRelationship', 'item by item', {
      trustDomains: ['five.test', 'five.test', 'none.test', 'Bad', '', 'example.org']
    }],
    ['GetFederatedBundle', 'which stays', { trustDomain: 'four.test', outputMask: {} }]
  ])
]
