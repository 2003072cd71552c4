import t from 'tap'
import { PolicyEngine } from '../../../src/authz/policy/policy-engine.ts'
import type { Decision } from '../../../src/authz/policy/decision.ts'
import { judge, marksOf } from '../policy/oracle.ts'
import { judgeIstio } from './istio-oracle.ts'
import { readMesh, type Row } from './mesh.ts'
import { actionRows, tcpRows } from './rows/action-rows.ts'
import { conditionRows } from './rows/condition-rows.ts'
import { operationRows, pathRows } from './rows/operation-rows.ts'
import { scopeRows } from './rows/scope-rows.ts'
import { addressRows, namespaceRows, principalRows, requestPrincipalRows, trustDomainRows } from './rows/source-rows.ts'

/** What is expected is written in the rows, from Istio's documentation; engine and oracles are held against that. */
const tables: Readonly<Record<string, readonly Row[]>> = {
  'actions and their order': actionRows,
  'plain TCP': tcpRows,
  'scope of a policy': scopeRows,
  'principals': principalRows,
  'trust domains and aliases': trustDomainRows,
  'namespaces and service accounts': namespaceRows,
  'request principals': requestPrincipalRows,
  'addresses': addressRows,
  'operations': operationRows,
  'paths': pathRows,
  'conditions': conditionRows
}

for (const [title, rows] of Object.entries(tables)) {
  t.test(`Istio's AuthorizationPolicy: ${title}`, t => {
    t.equal(new Set(rows.map(([sentence]) => sentence)).size, rows.length, 'each sentence is there once')
    for (const [sentence, policies, request, expected, { audits = [], asks = [], shadow, rawOracle } = {}] of rows) {
      const set = readMesh(policies)
      const decision = new PolicyEngine(set).decide(request)
      t.equal(told(decision), expected, `${sentence}: ${expected}`)
      t.equal(judge(set, request), expected, `${sentence}: the oracle of rules agrees`)
      if (rawOracle !== false) t.equal(judgeIstio(policies, request), expected, `${sentence}: the oracle of documents agrees`)
      t.same({ audits: decision.audits, asks: decision.consult.map(({ rule, provider }) => `${rule} ${provider}`) }, { audits, asks })
      const marks = marksOf(set, request)
      t.same({ audits: marks.audits, asks: decision.allowed ? marks.asks : [] }, { audits, asks })
      t.equal(decision.shadow === undefined ? undefined : told(decision.shadow), shadow)
    }
    t.end()
  })
}

function told ({ allowed, rule, reason }: Decision): string { return `${allowed ? 'allow' : 'deny'} ${rule ?? reason}` }
