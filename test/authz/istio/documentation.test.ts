import { readFileSync } from 'node:fs'
import t from 'tap'
import { PolicyEngine } from '../../../src/authz/policy/policy-engine.ts'
import { readPolicies } from '../../../src/authz/policy/read-policies.ts'
import { istioDocuments } from '../../../src/authz/istio/istio-documents.ts'
import { parseSpiffeId } from '../../../src/spiffe/spiffe-id.ts'

t.test('docs/istio-policies.md: its documents are read, and let in whom they name', t => {
  const page = readFileSync(new URL('../../../docs/istio-policies.md', import.meta.url), 'utf8')
  const blocks = [...page.matchAll(/```yaml\n(.*?)```/gs)].map(([, block = '']) => block)
  t.equal(blocks.length, 2)
  // The first stands in a list item.
  const text = blocks.map(block => block.replaceAll(/^ {3}(?=\S)/gm, '').trim()).join('\n---\n')
  const engine = new PolicyEngine(readPolicies([{ name: 'page', text }], { foreign: [istioDocuments()] }))
  const decide = (from: string, path: string, scope: string) => engine.decide({
    source: { id: parseSpiffeId(from) },
    destination: { id: parseSpiffeId('spiffe://example.org/ns/shop/sa/orders'), port: 80 },
    http: { method: 'GET', path, host: 'orders', headers: new Map(), claims: { scope } },
    tls: {},
    time: new Date('2026-06-01T00:00:00Z')
  })
  t.match(decide('spiffe://example.org/ns/shop/sa/web', '/orders/7?full', 'write read'), { allowed: true, rule: 'shop/orders/0' })
  t.match(decide('spiffe://old.example/ns/shop/sa/web', '/orders/7', 'read'), { allowed: true, rule: 'shop/orders/0' })
  t.match(decide('spiffe://example.org/ns/shop/sa/web', '/orders/7/items', 'read'), { allowed: false, reason: 'no-rule-allows' })
  t.match(decide('spiffe://example.org/ns/shop/sa/web', '/orders/7', 'write'), { allowed: false, reason: 'no-rule-allows' })
  t.match(decide('spiffe://example.org/ns/shop/sa/db', '/orders/7', 'read'), { allowed: false, reason: 'no-rule-allows' })
  t.end()
})
