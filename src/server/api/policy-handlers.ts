import type { ForeignDocuments } from '../../authz/policy/read-policies.ts'
import { readPolicySet } from '../../authz/policy/read-policy-set.ts'
import { selectorsIn } from '../../authz/policy/resolve-selectors.ts'
import { checkPushedBundles } from '../../authz/rego/pushed-bundles.ts'
import type { CallContext } from '../../rpc/call.ts'
import type { Clock } from '../../runtime/clock.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import {
  bytesOf, checkPolicyComment, type PolicyDocumentText, type PolicyVersion, type PolicyVersionDraft, type PolicyVersionFacts
} from '../../spiffe/policy-version.ts'
import type { TrustDomain } from '../../spiffe/trust-domain.ts'
import type { PolicyStore } from '../../storage/policy-store.ts'
import type { ApplyPoliciesRequest, PolicyChangeInit, PolicyHandlers, PolicyVersionInit } from '../../wire/generated/policy.ts'
import { DocumentParts, documentPages } from '../../wire/policy-codec.ts'
import type { Registrations } from '../registrations.ts'
import { nameOf } from './caller-name.ts'

export interface PolicyDeps {
  readonly trustDomain: TrustDomain
  readonly policies: PolicyStore
  readonly registrations: Pick<Registrations, 'applyPolicies'>
  /** Kinds of documents besides Assay's own. */
  readonly foreign: readonly ForeignDocuments[]
  readonly clock: Clock
}

/** `assay.server.policy.v1.Policy`: for operators. */
export function policyHandlers (deps: PolicyDeps): PolicyHandlers<CallContext> {
  const { policies, registrations } = deps
  return {
    async applyPolicies (requests, { caller, log, signal }) {
      const { texts, first } = await gather(requests)
      const { replaces, comment, dryRun } = first
      const draft = await draftOf(texts, { appliedBy: nameOf(caller), comment }, deps, signal)
      if (dryRun) return await previewOf(draft, Number(replaces), policies)
      const { version, changed } = await registrations.applyPolicies(draft, Number(replaces))
      if (changed) log.warn(factsOf(version), 'policies were applied by an operator')
      return { version: encodePolicyVersion(version), unchanged: !changed }
    },

    async * getPolicies ({ version: number }) {
      const version = await versionNumbered(Number(number), policies)
      let first = true
      for (const documents of documentPages(version.texts)) {
        yield { documents, ...first ? { version: encodePolicyVersion(version) } : {} }
        first = false
      }
    },

    async listPolicyVersions () {
      return { versions: (await policies.list()).map(encodePolicyVersion) }
    },

    async rollbackPolicies ({ version: number, replaces, comment }, { caller, log, signal }) {
      if (number === 0n) throw new SpiffeError('argument_invalid', 'the version to go back to is not named')
      const { texts } = await versionNumbered(Number(number), policies)
      // Read once more: a newer server may refuse what an older one took.
      const facts = { appliedBy: nameOf(caller), comment: comment === '' ? `back to version ${number}` : comment }
      const draft = await draftOf(texts, facts, deps, signal)
      const { version, changed } = await registrations.applyPolicies(draft, Number(replaces))
      if (changed) log.warn({ ...factsOf(version), documentsOf: Number(number) }, 'policies were rolled back by an operator')
      return { version: encodePolicyVersion(version), unchanged: !changed }
    }
  }
}

async function gather (requests: AsyncIterable<ApplyPoliciesRequest>) {
  const parts = new DocumentParts()
  let first: ApplyPoliciesRequest | undefined
  for await (const request of requests) {
    first ??= request
    parts.add(request.documents)
  }
  if (first === undefined) throw new SpiffeError('argument_invalid', 'nothing was sent')
  return { first, texts: parts.end() }
}

async function draftOf (
  texts: readonly PolicyDocumentText[], { appliedBy, comment }: Pick<PolicyVersionDraft, 'appliedBy' | 'comment'>, deps: PolicyDeps,
  signal: AbortSignal
): Promise<PolicyVersionDraft> {
  checkPolicyComment(comment)
  const set = readPolicySet(texts, deps)
  // Who signed a bundle is for agents to judge: they have the keys.
  await checkPushedBundles(set, { keys: undefined, clock: deps.clock }, signal)
  const { revision, rules } = set
  return { revision, appliedBy, comment, rules: rules.length, selectors: selectorsIn(rules), texts }
}

/** What `apply` would answer, and nothing written. */
async function previewOf (draft: PolicyVersionDraft, replaces: number, policies: PolicyStore): Promise<PolicyChangeInit> {
  const [active] = await policies.list()
  if ((active?.number ?? 0) !== replaces) {
    throw new SpiffeError('policy_conflict', `version ${active?.number ?? 0} is active, and version ${replaces} was to be replaced`)
  }
  const unchanged = active?.revision === draft.revision
  const now = { number: replaces + 1, parent: replaces, appliedAt: new Date(0), documents: draft.texts.length, bytes: bytesOf(draft.texts) }
  return { version: encodePolicyVersion(unchanged ? active : { ...draft, ...now }), unchanged }
}

/** @param number 0: the active one @throws {SpiffeError} `policy_version_not_found` */
async function versionNumbered (number: number, policies: PolicyStore): Promise<PolicyVersion> {
  const version = number === 0 ? await policies.active() : await policies.get(number)
  if (version !== undefined) return version
  const missing = number === 0 ? 'no policies were ever applied' : `there is no version ${number} of the policies, or no longer`
  throw new SpiffeError('policy_version_not_found', missing)
}

function factsOf ({ number, parent, revision, rules, documents, comment }: PolicyVersionFacts): object {
  return { version: number, replaced: parent, revision, rules, documents, comment }
}

function encodePolicyVersion (facts: PolicyVersionFacts): PolicyVersionInit {
  const { number, revision, parent, appliedBy, appliedAt, comment, rules, documents, bytes, selectors } = facts
  return {
    number, revision, parent, appliedBy, appliedAt: appliedAt.getTime(), comment, rules, documents, bytes, selectorLists: selectors.length
  }
}
