import { systemClock } from '../../runtime/clock.ts'
import { formatDuration } from '../../runtime/duration.ts'
import { codeOf } from '../../spiffe/errors.ts'
import { kindNames, type AuthorityKind } from '../authority/authority-calls.ts'
import { authorityConcerns } from '../authority/authority-concerns.ts'
import { encodeBreaks, formatBreaks } from '../authority/revoke-gate.ts'
import { defineCommand, type ExitCode } from '../command.ts'
import { formatIds } from '../convergence/consumers.ts'
import { countsOf, encodeWaited, waitFlags } from '../convergence/wait.ts'
import { optionalChoiceFlag, switchFlag, textListFlag } from '../flag.ts'
import { formatJson } from '../json-output.ts'
import { usage } from '../parse-flags.ts'
import { printable } from '../pretty.ts'
import { withServers, type Servers } from '../servers.ts'
import { outputFlag, replicaFlags } from '../socket-path.ts'
import type { Terminal } from '../terminal.ts'
import { leftInBundle } from './left-in-bundle.ts'
import { goalOf, hasOwnAuthorities } from './rotate-goal.ts'
import { nextStep, slotsOf, type Goal, type Slots } from './rotation-plan.ts'
import { readStatus, rotate, type DoneStep } from './rotation.ts'
import { serversBelow } from './servers-below.ts'

export const rotateAuthorities = defineCommand({
  flags: {
    compromised: optionalChoiceFlag('which kind of authority must go', ['x509', 'jwt']),
    drill: switchFlag('make and activate a new one, and taint and revoke nothing'),
    authorityID: textListFlag('only this authority must go, not every one of its kind', 'ID'),
    downstreamReady: switchFlag('servers below this one, and all below them, have what was done until now'),
    force: switchFlag('go on though live agents lag behind or servers below were not asked, and break them; names them'),
    'wait-timeout': waitFlags['wait-timeout'],
    ...replicaFlags,
    output: outputFlag
  },
  details: 'prepare, activate, taint, revoke: each waits (up to -wait-timeout) until every live agent has the one before. In the end\n' +
    'only an authority made by this command is trusted. Interrupted, it prints how to go on. A -drill breaks nothing: it does now\n' +
    'what the schedule does in any case, and tells how long each step takes to reach everybody.',
  examples: [
    'assay rotate --compromised x509',
    'assay rotate --compromised x509 --drill',
    'assay rotate --compromised jwt -authorityID Zt3v… --wait-timeout 2m -socketPath /run/a.sock -socketPath /run/b.sock'
  ],
  async run (call) {
    const { flags, terminal } = call
    const { compromised: kind, drill, force, downstreamReady, authorityID: authorityIds } = flags
    if (kind === undefined) throw usage('say which kind of authority must go: -compromised x509 or -compromised jwt')
    return withServers(call, async servers => {
      const status = await readStatus(servers, terminal)
      const goal = goalOf({ kind, drill, authorityIds, servers: flags.socketPath.length }, status)
      const report = new Report(kind, goal, flags.output, terminal)
      const alone = hasOwnAuthorities(status)
      if (alone) report.warn('replicas do not share their keys: this changes the authorities of the one that is asked')
      const below = await serversBelow(servers, terminal)
      if (force && below.length > 0) {
        report.warn(`servers below this one are not asked, and may break with all below them: ${formatIds(below)}`)
      }
      const timeoutMs = flags['wait-timeout']
      try {
        await rotate({ kind, goal, timeoutMs, force, below, downstreamReady }, { servers, terminal, onStep: step => report.add(step) })
      } catch (error) {
        report.interrupted(await isReached(servers, terminal, kind, goal), codeOf(error) === 'servers_below' ? below : [])
        throw error
      }
      const slots = slotsOf((await readStatus(servers, terminal)).authorities, kind)
      if (!alone && !drill) await warnOfOthers(report, servers, terminal, kind, slots)
      return report.done(slots)
    })
  }
})

/** Whether all steps are made, if not taken over by everybody; `false` where nobody answers. */
async function isReached (servers: Servers, terminal: Terminal, kind: AuthorityKind, goal: Goal): Promise<boolean> {
  const status = await readStatus(servers, terminal).catch(() => undefined)
  return status !== undefined && nextStep(slotsOf(status.authorities, kind), goal) === undefined
}

async function warnOfOthers (report: Report, servers: Servers, terminal: Terminal, kind: AuthorityKind, slots: Slots): Promise<void> {
  for (const id of await leftInBundle(servers, terminal, kind, [slots.active, slots.prepared, slots.old?.id])) {
    report.warn(`the bundle also holds ${kindNames[kind]} authority ${id}, which stays until it expires`)
  }
}

/** Tells of the steps as they come to people, and at the end to programs. */
class Report {
  readonly #kind: AuthorityKind
  readonly #goal: Goal
  readonly #json: boolean
  readonly #terminal: Terminal
  readonly #steps: DoneStep[] = []
  readonly #warnings: string[] = []
  readonly #startedMs = systemClock.monotonicMs()

  constructor (kind: AuthorityKind, goal: Goal, output: 'pretty' | 'json', terminal: Terminal) {
    this.#kind = kind
    this.#goal = goal
    this.#json = output === 'json'
    this.#terminal = terminal
    const leaving = [...goal.leaving].map(printable).join(' ')
    this.#tell(goal.drill
      ? `Drill: a new ${kindNames[kind]} authority takes over; nothing is tainted or revoked\n`
      : `${kindNames[kind]} authorities that must go: ${leaving}\n`)
  }

  add (step: DoneStep): void {
    const { verb, authorityId, tookMs, waited, breaks } = step
    this.#steps.push(step)
    const counts = countsOf(waited.consumers, authorityConcerns[verb].mustServe)
    this.#tell(`${verb.padEnd(8)}  ${printable(authorityId)}  ${counts} after ${formatDuration(tookMs)}\n`)
    if (breaks !== undefined && !this.#json) this.#terminal.err(formatBreaks(breaks))
  }

  warn (warning: string): void {
    this.#warnings.push(warning)
    if (!this.#json) this.#terminal.err(`Warning: ${printable(warning)}\n`)
  }

  /** @param below servers that somebody has to look at before it goes on */
  interrupted (reached: boolean, below: readonly string[]): void {
    const ids = [...this.#goal.leaving].map(id => `-authorityID ${printable(id)}`).join(' ')
    const resume = `assay rotate -compromised ${this.#kind}${this.#goal.drill ? ' -drill' : ''} ${ids}` +
      (below.length > 0 ? ' -downstreamReady' : '')
    const facts = { ...this.#facts(), done: false, resume: reached ? undefined : resume, ...below.length > 0 ? { below } : {} }
    if (this.#json) this.#terminal.out(`${formatJson(facts)}\n`)
    else if (reached) this.#terminal.err('All steps are made; see `assay status` for who has not taken them over\n')
    else this.#terminal.err(`To go on: ${resume}\n`)
  }

  done ({ active = '' }: Slots): ExitCode {
    const { drill } = this.#goal
    const took = formatDuration(Math.round(systemClock.monotonicMs() - this.#startedMs))
    if (this.#json) this.#terminal.out(`${formatJson({ ...this.#facts(), done: true, active })}\n`)
    else if (this.#steps.length === 0) this.#tell('Nothing was to be done\n')
    this.#tell(`Done in ${took}: ${kindNames[this.#kind]} authority ${printable(active)} signs; ` +
      (drill ? 'what was before it stays valid until it expires\n' : 'what had to go is in no bundle any more\n'))
    return 0
  }

  #tell (text: string): void { if (!this.#json) this.#terminal.out(text) }

  #facts (): object {
    return {
      kind: this.#kind,
      drill: this.#goal.drill,
      leaving: [...this.#goal.leaving],
      warnings: this.#warnings,
      tookMs: Math.round(systemClock.monotonicMs() - this.#startedMs),
      steps: this.#steps.map(({ verb, authorityId, tookMs, waited, breaks }) => ({
        verb, authorityId, tookMs, convergence: encodeWaited(waited), ...breaks === undefined ? {} : encodeBreaks(breaks)
      }))
    }
  }
}
