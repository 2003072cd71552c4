import { bundleOf as of, id, junk, partner, publicKey, uid } from './materials.ts'
import { pages, type Step, steps } from './step.ts'

const own = { ...partner, trustDomain: 'example.org' }
const key = (more: object = {}) => ({ keyId: 'k', publicKey, ...more })
/** Each mistake a bundle may have. */
const mistakes: ReadonlyArray<readonly [what: string, bundle: object]> = [
  ['the own domain', own],
  ['no domain', of('')],
  ['a domain that is none', of('Bad')],
  ['a certificate that is none', of('bad.test', { x509Authorities: [{ asn1: junk }] })],
  ['a key without an ID', of('bad.test', { jwtAuthorities: [key({ keyId: '' })] })],
  ['no key', of('bad.test', { jwtAuthorities: [{ keyId: 'k' }] })],
  ['a key that is none', of('bad.test', { jwtAuthorities: [key({ publicKey: junk })] })]
]
const change = of('partner.test', { refreshHint: 60, sequenceNumber: 42, x509Authorities: [], jwtAuthorities: [] })
const changed = (more: object) => ({ bundle: [change], ...more })
const appended = { x509Authorities: partner.x509Authorities, jwtAuthorities: [key({ keyId: 'appended', expiresAt: 4_102_444_800 })] }

/** spire-surface §1.4. */
export const bundleSteps: readonly Step[] = [
  ...steps('local', [
    ['CountBundles', 'the own one and two'],
    ['BatchDeleteFederatedBundle', 'the partners of before', { trustDomains: ['partner.test', 'two.test'], mode: 2 }],
    ['ListFederatedBundles', 'none there'],
    ['GetBundle', 'nothing of it', { outputMask: {} }],
    ['GetBundle', 'some of it', { outputMask: { x509Authorities: true } }],
    ['AppendBundle', 'nothing'],
    ['AppendBundle', 'WIT authorities alone', { witAuthorities: [{ keyId: 'x' }] }],
    ['AppendBundle', 'a certificate that is none', { x509Authorities: [{ asn1: junk }] }],
    ['AppendBundle', 'a key without an ID', { jwtAuthorities: [key({ keyId: '' })] }],
    ['AppendBundle', 'no key', { jwtAuthorities: [{ keyId: 'k' }] }],
    ['AppendBundle', 'a key that is none', { jwtAuthorities: [key({ publicKey: junk })] }],
    ['AppendBundle', 'both', { ...appended, outputMask: { jwtAuthorities: true } }],
    ['AppendBundle', 'both again', { ...appended, outputMask: { jwtAuthorities: true } }],

    ['BatchCreateFederatedBundle', 'none'],
    ['BatchUpdateFederatedBundle', 'none'],
    ['BatchSetFederatedBundle', 'none'],
    ['BatchDeleteFederatedBundle', 'none'],
    ...['Create', 'Update', 'Set'].flatMap(verb => mistakes.map(([what, bundle]) =>
      [`Batch${verb}FederatedBundle`, what, { bundle: [bundle] }] as const)),
    ['BatchUpdateFederatedBundle', 'one that is not there', { bundle: [of('none.test')] }],
    ['BatchCreateFederatedBundle', 'one, and it again', {
      bundle: [of('partner.test', { refreshHint: 30, sequenceNumber: 7 }), of('partner.test')]
    }],
    ['BatchCreateFederatedBundle', 'as an ID, masked', { bundle: [of('spiffe://two.test')], outputMask: { refreshHint: true } }],
    ['BatchCreateFederatedBundle', 'an empty one', { bundle: [{ trustDomain: 'empty.test' }] }],
    ['BatchUpdateFederatedBundle', 'nothing of one', changed({ inputMask: {} })],
    ['BatchUpdateFederatedBundle', 'its hint', changed({
      inputMask: { refreshHint: true }, outputMask: { refreshHint: true, sequenceNumber: true }
    })],
    ['BatchUpdateFederatedBundle', 'its number', changed({ inputMask: { sequenceNumber: true } })],
    ['BatchUpdateFederatedBundle', 'its certificates', changed({ inputMask: { x509Authorities: true } })],
    ['BatchUpdateFederatedBundle', 'its keys', changed({ inputMask: { jwtAuthorities: true } })],
    ['BatchUpdateFederatedBundle', 'all of it', { bundle: [of('partner.test', { refreshHint: 90, sequenceNumber: 3 })] }],
    ['BatchSetFederatedBundle', 'one that is there, one that is not', { bundle: [of('partner.test'), of('three.test')],
      outputMask: { refreshHint: true } }],

    ['GetFederatedBundle', 'no name'],
    ['GetFederatedBundle', 'the own domain', { trustDomain: 'example.org' }],
    ['GetFederatedBundle', 'a bad name', { trustDomain: 'Bad' }],
    ['GetFederatedBundle', 'one that is not there', { trustDomain: 'none.test' }],
    ['GetFederatedBundle', 'one', { trustDomain: 'partner.test' }],
    ['GetFederatedBundle', 'by its ID, masked', { trustDomain: 'spiffe://partner.test', outputMask: { refreshHint: true } }],
    ['GetFederatedBundle', 'by an ID of its members', { trustDomain: 'spiffe://partner.test/x' }],

    ['CountBundles', 'all'],
    ['ListFederatedBundles', 'all, masked', { outputMask: { sequenceNumber: true } }],
    ['ListFederatedBundles', 'a token that is none', { pageSize: 1, pageToken: 'x' }],
    ['ListFederatedBundles', 'a negative size', { pageSize: -1, outputMask: {} }]
  ]),
  // The own one, which is not shown, is counted in.
  ...pages('ListFederatedBundles', 3, 2),
  ...steps('local', [
    ['BatchCreateEntry', 'that federate', { entries: [
      { id: 'f1', spiffeId: id('/f1'), parentId: id('/node'), selectors: uid('1'), federatesWith: ['partner.test', 'two.test'] },
      { id: 'f2', spiffeId: id('/f2'), parentId: id('/node'), selectors: uid('1'), federatesWith: ['two.test'] }
    ], outputMask: {} }],
    ['BatchDeleteFederatedBundle', 'an unknown mode', { trustDomains: ['partner.test'], mode: 7 }],
    ['BatchDeleteFederatedBundle', 'restricted', { trustDomains: ['partner.test', 'none.test', 'Bad', '', 'example.org', 'three.test'] }],
    ['BatchDeleteFederatedBundle', 'dissociated', { trustDomains: ['partner.test', 'none.test'], mode: 2 }],
    ['GetEntry', 'dissociated', { id: 'f1', outputMask: { federatesWith: true } }],
    ['GetEntry', 'its revision', { id: 'f1', outputMask: { revisionNumber: true } },
      ['OK', 'it counts as a change, so that agents hear of it at once']],
    ['BatchDeleteFederatedBundle', 'with its entries', { trustDomains: ['two.test', 'none.test'], mode: 1 }],
    ['GetEntry', 'which went with its partner', { id: 'f2' }],
    ['BatchDeleteFederatedBundle', 'by its ID', { trustDomains: ['spiffe://empty.test'] }]
  ]),
  ...steps('/nested', [
    ['PublishJWTAuthority', 'none'],
    ['PublishJWTAuthority', 'without a key ID', { jwtAuthority: key({ keyId: '' }) }],
    ['PublishJWTAuthority', 'without a key', { jwtAuthority: { keyId: 'k' } }],
    ['PublishJWTAuthority', 'a key that is none', { jwtAuthority: key({ publicKey: junk }) }],
    ['PublishJWTAuthority', 'one', { jwtAuthority: key({ keyId: 'published', expiresAt: 4_102_444_800 }) }],
    ['PublishJWTAuthority', 'it again', { jwtAuthority: key({ keyId: 'published', expiresAt: 4_102_444_800 }) }],
    ['PublishWITAuthority', 'one', { witAuthority: key() }]
  ])
]
