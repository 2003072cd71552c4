import type { FederationRelationship, FederationRelationshipInit, Status } from '../../wire/generated/types.ts'
import type { ExitCode } from '../command.ts'
import { statusesSuffice } from '../batch-item.ts'
import type { Concern } from '../convergence/await-convergence.ts'
import { tellChange, type Wait, type WaitCall } from '../convergence/wait.ts'
import { printable } from '../pretty.ts'
import { statusCodeName } from '../status-code.ts'
import { formatFederation } from './format-federation.ts'

/** Keeps each message below the server's limit: bundles may come along. */
const batchSize = 50

export interface FederationResult {
  readonly status: Status | undefined
  readonly federationRelationship: FederationRelationship | undefined
}

export interface FederationChanges {
  readonly verb: 'create' | 'update'
  readonly asked: readonly FederationRelationshipInit[]
  readonly results: readonly FederationResult[]
}

/** Bundles concern all agents; a relationship without one concerns none. */
const bundlesConcern: Concern = { entryIds: [] }

/** Sends relationships in batches, one after the other. Results come in the order of the relationships. */
export async function inFederationBatches (
  relationships: readonly FederationRelationshipInit[],
  send: (batch: readonly FederationRelationshipInit[]) => Promise<readonly FederationResult[]>
): Promise<FederationResult[]> {
  const results: FederationResult[] = []
  for (let start = 0; start < relationships.length; start += batchSize) {
    results.push(...await send(relationships.slice(start, start + batchSize)))
  }
  return results
}

/** Tells what became of each, and who has the bundles that came along. One failure makes the exit code 1; see `statusesSuffice`. */
export async function tellFederation (
  call: WaitCall, { verb, asked, results }: FederationChanges, wait: Wait | undefined
): Promise<ExitCode> {
  const { terminal } = call
  const outcomes = results.map((result, index) => ({ ...result, asked: asked[index] ?? {}, failed: (result.status?.code ?? 0) !== 0 }))
  const failed = outcomes.filter(outcome => outcome.failed)
  const pretty = () => {
    for (const { failed, federationRelationship } of outcomes) {
      if (!failed && federationRelationship !== undefined) terminal.out(formatFederation(federationRelationship))
    }
    for (const { status, asked } of failed) {
      const reason = `code: ${statusCodeName(status?.code ?? 0)}, msg: ${JSON.stringify(printable(status?.message ?? ''))}`
      terminal.err(`Failed to ${verb} the following federation relationship (${reason}):${formatFederation(asked)}`)
    }
    const what = failed.length === 1 ? 'one federation relationship' : `${failed.length} federation relationships`
    if (failed.length > 0) terminal.err(`Error: failed to ${verb} ${what}\n`)
  }
  const bundles = outcomes.some(({ failed, asked }) => !failed && asked.trustDomainBundle !== undefined)
  const code = await tellChange(call, { json: { results }, pretty }, wait, bundles ? bundlesConcern : undefined)
  return failed.length > 0 && !statusesSuffice(call) ? 1 : code
}
