import { agentId, foreignId, id, partner, uid } from './materials.ts'
import { type Differs, pages, type Step, type StepRow, steps } from './step.ts'

const good = { spiffeId: id('/web'), parentId: id('/node'), selectors: uid('1') }
const attributes = { disableX509SvidPrefetch: true, jwtSvidIncludeJti: true }
const create = (what: string, more: object) =>
  ['BatchCreateEntry', what, { entries: [{ ...good, spiffeId: id('/other'), ...more }] }] as const
const update = (what: string, more: object, masks: object = {}) =>
  ['BatchUpdateEntry', what, { entries: [{ ...good, id: 'web', ...more }], ...masks }] as const
const bothWays = (what: string, filter: object, differs?: Differs): StepRow[] =>
  [['CountEntries', what, { filter }, differs], ['ListEntries', what, { filter, outputMask: {} }, differs]]
const unknownMatch: Differs = ['INVALID_ARGUMENT', 'SPIRE calls it INTERNAL, which the caller can do nothing about']
const selecting = (match: number, ...values: string[]) => ({ bySelectors: { match, selectors: values.flatMap(uid) } })
const federating = (match: number, ...trustDomains: string[]) => ({ byFederatesWith: { match, trustDomains } })

/** spire-surface §1.5, §3. */
export const entrySteps: readonly Step[] = [
  ...steps('local', [
    ['CountEntries', 'one alias there'],
    ['BatchCreateEntry', 'none'],
    ['BatchSetFederatedBundle', 'a partner', { bundle: [partner, { ...partner, trustDomain: 'two.test' }] }],
    ['BatchCreateEntry', 'with everything', { entries: [{
      ...good, id: 'web', x509SvidTtl: 60, jwtSvidTtl: 30, federatesWith: ['partner.test', 'spiffe://two.test'],
      admin: true, downstream: true,
      expiresAt: 4_102_444_800, dnsNames: ['a.test'], hint: 'h', additionalAttributes: attributes, revisionNumber: 7,
      createdAt: 7
    }] }],
    ['BatchCreateEntry', 'one alike, and one with the same id', { entries: [
      { ...good, selectors: [...uid('1'), ...uid('1')] }, { ...good, id: 'web', spiffeId: id('/other') }] }],
    ['BatchCreateEntry', 'one alike, masked', { entries: [good], outputMask: { spiffeId: true } }],
    ['BatchCreateEntry', 'two alike', { entries: [
      { ...good, id: 'store', spiffeId: id('/store'), storeSvid: true, selectors: [...uid('3'), ...uid('2')] },
      { ...good, spiffeId: id('/store'), selectors: [...uid('2'), ...uid('3')] }], outputMask: { selectors: true, storeSvid: true } }],
    ['BatchCreateEntry', 'a node alias', { entries: [{ ...good, id: 'alias', spiffeId: id('/nodes'), parentId: id('/spire/server') }] }],
    ['BatchCreateEntry', 'an id that is made', { entries: [{ ...good, spiffeId: id('/made') }], outputMask: {} }],
    ['BatchCreateEntry', 'DNS names, which keep their order', {
      entries: [{ ...good, id: 'named', spiffeId: id('/named'), dnsNames: ['b.test', 'a.test', '*.c.test', '1.2.3.4', 'xn--ls8h.test'] }],
      outputMask: { spiffeId: true }
    }],
    ['GetEntry', 'its DNS names', { id: 'named', outputMask: { dnsNames: true } }],
    create('no SPIFFE ID', { spiffeId: undefined }),
    create('another domain\'s SPIFFE ID', { spiffeId: foreignId }),
    create('the domain as SPIFFE ID', { spiffeId: id('') }),
    create('a reserved SPIFFE ID', { spiffeId: id('/spire/x') }),
    create('/spire as SPIFFE ID', { spiffeId: id('/spire') }),
    create('a SPIFFE ID with an empty segment', { spiffeId: id('/a//b') }),
    create('a SPIFFE ID with a slash at its end', { spiffeId: id('/a/') }),
    create('a SPIFFE ID with a dot segment', { spiffeId: id('/a/../b') }),
    create('a SPIFFE ID with a bad character', { spiffeId: id('/a b') }),
    create('a SPIFFE ID in capitals', { spiffeId: { trustDomain: 'EXAMPLE.org', path: '/x' } }),
    create('no parent', { parentId: undefined }),
    create('another domain\'s parent', { parentId: foreignId }),
    create('the domain as parent', { parentId: id('') }),
    create('no selectors', { selectors: [] }),
    create('a selector without a type', { selectors: [{ type: '', value: 'x' }] }),
    create('a selector whose type has a colon', { selectors: [{ type: 'a:b', value: 'x' }] }),
    create('a selector without a value', { selectors: [{ type: 'a', value: '' }] }),
    create('an unknown partner', { federatesWith: ['none.test'] }),
    create('a partner that is no name', { federatesWith: ['Bad'] }),
    create('an empty partner', { federatesWith: [''] }),
    create('a partner by an ID of its members', { id: 'by-id', spiffeId: id('/by-id'), federatesWith: ['spiffe://partner.test/x'] }),
    create('a hint that is too long', { hint: 'h'.repeat(1025) }),
    create('a hint at the limit', { id: 'hint', hint: 'h'.repeat(1024), spiffeId: id('/hint') }),
    create('a negative X.509 ttl', { x509SvidTtl: -1 }),
    create('a negative JWT ttl', { jwtSvidTtl: -1 }),
    create('an id with a bad character', { id: 'a b' }),
    create('an id that is too long', { id: 'i'.repeat(256) }),
    create('an id at the limit', { id: 'i'.repeat(255), spiffeId: id('/long') }),
    create('stored, of two types', { storeSvid: true, selectors: [...uid('1'), { type: 'a', value: 'x' }] }),
    create('stored, and not fetched before', { storeSvid: true, additionalAttributes: attributes }),
    ...[
      '-a.test', 'a-.test', 'a..test', 'a.test.', '', '*', '*.*.test', 'a.*.test', 'a*.test', 'ä.test', 'xn--a.test',
      `${'a'.repeat(64)}.test`
    ].map(name => create(`the DNS name ${JSON.stringify(name)}`, { dnsNames: [name] })),
    [...create('a DNS name twice', { dnsNames: ['a.test', 'a.test'] }), [[3], 'SPIRE lets its database say that they are not unique']],
    create('a DNS name under a wildcard', { id: 'overlap', dnsNames: ['*.a.test', 'b.a.test'], spiffeId: id('/overlap') }),
    create('a parent that is an agent', { id: 'ofone', spiffeId: id('/ofone'), parentId: agentId('one') }),
    ['BatchCreateEntry', 'mistakes between two that are right', { entries: [
      { ...good, spiffeId: id('/m1'), id: 'm1' }, { ...good, selectors: [] }, { ...good, spiffeId: id('/m2'), id: 'm2' }
    ], outputMask: { hint: true } }],

    ['GetEntry', 'no id'],
    ['GetEntry', 'one that is not there', { id: 'none' }],
    ['GetEntry', 'one', { id: 'web' }],
    ['GetEntry', 'nothing of one', { id: 'web', outputMask: {} }],
    ['GetEntry', 'some of one', { id: 'web', outputMask: { dnsNames: true, federatesWith: true, additionalAttributes: true } }],

    ...bothWays('by SPIFFE ID', { bySpiffeId: id('/web') }),
    ...bothWays('by another domain\'s SPIFFE ID', { bySpiffeId: foreignId }),
    ...bothWays('by a SPIFFE ID that is none', { bySpiffeId: {} }),
    ...bothWays('by a reserved SPIFFE ID', { bySpiffeId: id('/spire/x') }),
    ...bothWays('by parent', { byParentId: id('/spire/server') }),
    ...bothWays('by a parent that is none', { byParentId: {} }),
    ...bothWays('by another domain\'s parent', { byParentId: foreignId }),
    ...bothWays('by an empty hint', { byHint: { value: '' } }),
    ...bothWays('by hint', { byHint: { value: 'h' } }),
    ...bothWays('downstream', { byDownstream: { value: true } }),
    ...bothWays('not downstream', { byDownstream: { value: false } }),
    ...[0, 1, 2, 3].flatMap(match => bothWays(`by selectors, match ${match}`, selecting(match, '2', '3'))),
    ...bothWays('by selectors, an unknown match', selecting(7, '2'), unknownMatch),
    ...bothWays('by no selectors', selecting(0)),
    ...bothWays('by a selector without a value', { bySelectors: { selectors: [{ type: 'unix', value: '' }] } }),
    ...bothWays('by a selector without a type', { bySelectors: { selectors: [{ type: '', value: 'x' }] } }),
    ...[0, 1, 2, 3].flatMap(match => bothWays(`by partners, match ${match}`, federating(match, 'partner.test', 'two.test', 'three.test'))),
    ...bothWays('by partners, an unknown match', federating(7, 'partner.test'), unknownMatch),
    ...bothWays('by partners, exactly', federating(0, 'partner.test', 'two.test')),
    ...bothWays('by no partners', federating(0)),
    ...bothWays('by a partner that is no name', federating(0, 'Bad')),
    ...bothWays('by two things', { byParentId: id('/node'), ...selecting(0, '1') }),
    ['ListEntries', 'all, masked', { outputMask: { spiffeId: true, revisionNumber: true } }],
    ['ListEntries', 'a token that is none', { pageSize: 1, pageToken: 'x' }],
    ['ListEntries', 'a token without a size', { pageToken: 'x', outputMask: {} }],
    ['ListEntries', 'a negative size', { pageSize: -1, outputMask: {} }]
  ]),
  ...pages('ListEntries', 2, 2), ...pages('ListEntries', 2, 3, { filter: { byParentId: id('/node') } }),
  { method: 'ListEntries', what: 'after the last', request: { pageSize: 2, pageToken: '4000000', outputMask: {} } },

  ...steps('local', [
    ['BatchUpdateEntry', 'no id', { entries: [good] }],
    ['BatchUpdateEntry', 'one that is not there', { entries: [{ ...good, id: 'none' }] }],
    ['BatchUpdateEntry', 'one that is not there, masked', { entries: [{ id: 'none' }], inputMask: { hint: true } }],
    update('no selectors', { selectors: [] }),
    update('no SPIFFE ID', { spiffeId: undefined }),
    update('nothing named', { hint: 'ignored' }, { inputMask: {} }),
    update('a hint alone', { spiffeId: undefined, selectors: [], hint: 'changed' }, { inputMask: { hint: true } }),
    update('a hint that is too long', { hint: 'h'.repeat(1025) }, { inputMask: { hint: true } }),
    update('a negative ttl', { x509SvidTtl: -1 }, { inputMask: { x509SvidTtl: true } }),
    update('a negative ttl that is not named', { x509SvidTtl: -1 }, { inputMask: { hint: true }, outputMask: { revisionNumber: true } }),
    update('no selectors, named', { selectors: [] }, { inputMask: { selectors: true } }),
    update('no SPIFFE ID, named', { spiffeId: undefined }, { inputMask: { spiffeId: true } }),
    update('no parent, named', { parentId: undefined }, { inputMask: { parentId: true } }),
    update('an unknown partner', { federatesWith: ['none.test'] }, { inputMask: { federatesWith: true } }),
    update('a bad DNS name', { dnsNames: ['-a'] }, { inputMask: { dnsNames: true } }),
    update('fetched before', { additionalAttributes: {} }, { inputMask: { additionalAttributes: true } }),
    update('revision and time of creation', { revisionNumber: 99, createdAt: 1 }, { inputMask: { revisionNumber: true, createdAt: true } }),
    update('stored, of one type', { storeSvid: true }, { inputMask: { storeSvid: true } }),
    update('stored, of two types', { selectors: [...uid('1'), { type: 'a', value: 'x' }] }, { inputMask: { selectors: true } }),
    update('everything', { selectors: [...uid('5'), ...uid('4')], federatesWith: ['two.test'], dnsNames: ['z.test'] }),
    ['GetEntry', 'what it has become', { id: 'web' }],

    ['BatchDeleteEntry', 'none'],
    ['BatchDeleteEntry', 'item by item', { ids: ['', 'none', 'm1', 'm1', 'm2'] }],
    ['BatchDeleteEntry', 'an id with a bad character', { ids: ['a b'] }]
  ])
]
