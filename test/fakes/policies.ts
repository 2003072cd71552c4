import { createHash } from 'node:crypto'
import type { PolicyVersion, PolicyVersionDraft } from '../../src/spiffe/policy-version.ts'

/** A document with one rule that lets one ID into another. */
export function policyText (
  name: string, { from = 'spiffe://example.org/web', to = 'spiffe://example.org/db', action = 'allow' } = {}
): string {
  return `apiVersion: assay/v1
kind: Policy
name: ${name}
workloads: { ids: [${to}] }
rules:
  - { name: callers, action: ${action}, from: [{ ids: [${from}] }] }
`
}

/** The same for whoever has a selector. */
export function selectorPolicyText (name: string, selector: string): string {
  return policyText(name).replace('ids: [spiffe://example.org/web]', `selectors: ["${selector}"]`)
}

/** As the server would store it; texts are not looked at. */
export function makePolicyDraft (texts: readonly string[] = [policyText('db')]): PolicyVersionDraft {
  const hash = createHash('sha256')
  for (const text of texts) hash.update(text)
  return {
    revision: hash.digest('hex'),
    appliedBy: 'a test',
    comment: '',
    rules: texts.length,
    selectors: [],
    texts: texts.map((text, index) => ({ name: `${index}.yaml`, text }))
  }
}

export function makePolicyVersion (number: number, rest: Partial<PolicyVersion> = {}): PolicyVersion {
  return { ...makePolicyDraft(), number, parent: number - 1, appliedAt: new Date(0), documents: 1, bytes: 0, ...rest }
}
