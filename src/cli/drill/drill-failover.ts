import { systemClock } from '../../runtime/clock.ts'
import { SpiffeError } from '../../spiffe/errors.ts'
import { clusterService } from '../../wire/generated/cluster.ts'
import { withServerAt } from '../channel-call.ts'
import { defineCommand } from '../command.ts'
import { durationFlag, pathListFlag, switchFlag } from '../flag.ts'
import { formatJson } from '../json-output.ts'
import { usage } from '../parse-flags.ts'
import { outputFlag, serverFlags, serverSocketPath } from '../socket-path.ts'
import type { Terminal } from '../terminal.ts'
import { checkCluster, type Check } from './failover-checks.ts'
import { convergenceOf, drillReplica, succeeded, type Round } from './failover-round.ts'
import { formatChecks, formatRound, type FailoverReport } from './format-failover.ts'

const longestMs = 300_000
/** Replicas report every two seconds, and agents that nothing changed for every five. */
const settleMs = 15_000
const lookEveryMs = 500
const callTimeoutMs = 10_000

export const drillFailover = defineCommand({
  flags: {
    socketPath: pathListFlag('admin socket of a replica that shall stand aside; repeat for each', {
      placeholder: 'PATH', defaultText: serverFlags.socketPath.defaultText
    }),
    instance: serverFlags.instance,
    duration: durationFlag('how long a replica stands aside at the most', 30_000, '30s'),
    'dry-run': switchFlag('only check whether the drill would be safe'),
    output: outputFlag
  },
  details: 'Each replica in turn ends the streams of its agents, refuses them and gives up the chores, until others have both; then it\n' +
    'is back. Nothing is stopped, and it comes back by itself if this command is killed. Refused unless the others can carry on.',
  examples: [
    'assay drill failover --dry-run',
    'assay drill failover -socketPath /run/assay-1/api.sock -socketPath /run/assay-2/api.sock -socketPath /run/assay-3/api.sock',
    'assay drill failover -duration 1m -output json'
  ],
  async run ({ flags, terminal }) {
    if (flags.duration > longestMs) throw usage('-duration may be 5m at the most')
    const { environment } = terminal
    const paths = flags.socketPath.length === 0
      ? [serverSocketPath({ socketPath: undefined, instance: flags.instance }, environment)]
      : flags.socketPath.map(socketPath => serverSocketPath({ socketPath, instance: undefined }, environment))
    const tell = (text: string) => { if (flags.output === 'pretty') terminal.out(text) }

    const checks = await settledChecks(paths, terminal)
    tell(formatChecks(checks))
    const safe = checks.every(({ passed }) => passed)
    const rounds: Round[] = []
    for (const path of safe && !flags['dry-run'] ? paths : []) {
      if (rounds.length > 0) refuseUnsafe(await settledChecks(paths, terminal))
      const round = await withServerAt(path, channel =>
        drillReplica(channel.client(clusterService), { forMs: flags.duration, clock: systemClock, signal: terminal.signal }))
      rounds.push(round)
      tell(`${formatRound(round)}\n`)
      if (!succeeded(round)) break
    }
    const report: FailoverReport = { passed: safe && rounds.every(succeeded), dryRun: flags['dry-run'], checks, rounds }
    if (flags.output === 'json') terminal.out(`${formatJson(report)}\n`)
    refuseUnsafe(checks)
    if (report.passed) return 0
    throw new SpiffeError('drill_failed', `${rounds.at(-1)?.address} was not replaced within ${flags.duration / 1000} s`)
  }
})

function refuseUnsafe (checks: readonly Check[]): void {
  const failed = checks.filter(({ passed }) => !passed)
  if (failed.length === 0) return
  throw new SpiffeError('drill_refused', failed.map(({ name, detail, next }) => `${name}: ${detail} (${next})`).join('; '))
}

/** The checks once they pass, or as they are when they have not for a while: reports come every few seconds. */
async function settledChecks (paths: readonly string[], terminal: Terminal): Promise<Check[]> {
  const endMs = systemClock.monotonicMs() + settleMs
  for (;;) {
    const checks = await lookAt(paths, terminal)
    const hopeless = checks.some(({ name, passed }) => !passed && lasting.has(name))
    if (hopeless || checks.every(({ passed }) => passed) || systemClock.monotonicMs() > endMs) return checks
    await systemClock.sleep(lookEveryMs, terminal.signal)
  }
}

/** Checks that a moment's patience does not change. */
const lasting: ReadonlySet<string> = new Set(['replicas of one database', 'two live replicas', 'shared authorities'])

async function lookAt (paths: readonly string[], { signal }: Terminal): Promise<Check[]> {
  const call = { signal, timeoutMs: callTimeoutMs }
  const views = await Promise.all(paths.map((path, n) => withServerAt(path, async channel => {
    const cluster = channel.client(clusterService)
    return { status: await cluster.getStatus({}, call), convergence: n === 0 ? await convergenceOf(cluster, {}, call) : undefined }
  })))
  const convergence = views[0]?.convergence ?? { cursor: undefined, consumers: [], converged: true }
  return checkCluster({ statuses: views.map(({ status }) => status), convergence })
}
