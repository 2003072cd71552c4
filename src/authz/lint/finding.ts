import type { LintCatalogue, LintFinding } from '../../spiffe/lint-finding.ts'

/** What is found in policies. */
export const findingCatalogue = {
  'never-matches': { severity: 'error', next: 'correct the tests named, or remove the rule' },
  'window-past': { severity: 'warning', next: 'remove the rule, or give it a new time' },
  'value-never-matches': { severity: 'error', next: 'write it as requests are looked at, or remove it' },
  'not-federated': { severity: 'error', next: 'add a FederationScope that accepts these IDs, or remove the rule' },
  'dead-by-deny': { severity: 'error', next: 'narrow the deny rule, or remove this one' },
  shadowed: { severity: 'warning', next: 'remove the rule, or narrow the one before it' },
  'reachable-by-anybody': { severity: 'warning', next: 'say in `from` who may: even callers without an identity are let in' },
  'identity-is-no-permission': { severity: 'warning', next: 'name the callers, or in `to` what all of them may do' },
  'whole-trust-domain': { severity: 'warning', next: 'name the callers: every workload of the trust domain is meant, future ones too' },
  'open-workload': { severity: 'warning', next: 'narrow the rule named, or register the workload under another ID' },
  'unprotected-workload': { severity: 'info', next: 'write an allow rule about it, or set defaultAction: deny' },
  'default-allow': { severity: 'warning', next: 'set defaultAction: deny once every workload has its rules' },
  'nobody-registered': { severity: 'warning', next: 'correct the ID, register it (`assay entry create`), or remove it' },
  'deny-without-port': { severity: 'warning', next: 'give the deny rule ports: on TCP nobody knows what it asks, and it refuses all' },
  'method-in-lower-case': { severity: 'warning', next: 'write methods as they are sent: GET, POST, …' },
  'federation-over': { severity: 'warning', next: 'remove the scope, or give it a new `until`' },
  'federation-whole-domain': { severity: 'warning', next: 'accept the IDs that are needed: others name their workloads as they like' },
  'federation-with-itself': { severity: 'error', next: 'remove the scope, and say in rules what your own callers may' },
  'federation-accepts-nobody': { severity: 'info', next: 'accept IDs, or leave it: they are authenticated, and refused' },
  'not-all-compared': { severity: 'info', next: 'nothing: the other findings hold; split the policies to have all rules compared' },
  'too-many-alternatives': { severity: 'info', next: 'split the rule: with so many alternatives it is not looked at' }
} as const satisfies LintCatalogue

export type FindingCode = keyof typeof findingCatalogue

/** About a rule, `<policy>/<rule>`, about `federation/<trust domain>`, or about all of the policies. */
export type Finding = LintFinding<FindingCode>

export function finding (code: FindingCode, about: string | undefined, message: string): Finding {
  return { code, ...findingCatalogue[code], about, message }
}
