import { delimiter, dirname, join } from 'node:path'
import { openWorkspace } from '../../src/cli/demo/workspace.ts'
import type { Lab } from './lab.ts'
import type { Environment } from './needs.ts'
import { Stage } from './stage.ts'
import { Transcript } from './transcript.ts'

/** Automake's word for a test that could not run. */
export const skippedCode = 77
const programs = join(import.meta.dirname, '../../bin')

export interface RunLabOptions {
  readonly environment: Environment
  /** Ends the lab, which cleans up and throws the reason. */
  readonly signal: AbortSignal
  readonly out: (text: string) => void
  /** Leave the logs; after a failure they stay anyway. */
  readonly keepLogs?: boolean
  /** What to do before everything is taken away, when all has held. */
  readonly stay?: (stage: Stage) => Promise<void>
}

export interface LabOutcome {
  /** 0: all that it claims holds. 1: something does not. 77: skipped. */
  readonly code: 0 | 1 | typeof skippedCode
  readonly steps: Transcript['steps']
  /** It is gone, but for logs that were kept. */
  readonly folder: string
  /** Of whatever was started in the background. */
  readonly pids: readonly number[]
  /** Why it was skipped. */
  readonly reason?: string
}

/** Runs a lab from its needs to the last process that it started. */
export async function runLab (name: string, lab: Lab, options: RunLabOptions): Promise<LabOutcome> {
  const { environment, signal, out } = options
  const transcript = new Transcript(out)
  const met = await meetNeeds(lab, environment)
  if ('reason' in met) {
    out(`skipped: ${name}: ${met.reason}\n`)
    return { code: skippedCode, steps: transcript.steps, folder: '', pids: [], reason: met.reason }
  }
  const path = [programs, dirname(process.execPath), ...met.folders, environment['PATH'] ?? ''].join(delimiter)
  const variables = new Map([['PATH', path], ['LC_ALL', 'C']])
  const workspace = await openWorkspace()
  workspace.keepLogs = options.keepLogs ?? false
  const stage = new Stage({ workspace, transcript, signal, variables })
  const outcome = () => ({ steps: transcript.steps, folder: workspace.folder, pids: stage.processes.map(({ pid }) => pid) })
  const lastResort = () => {
    for (const process of stage.processes) process.kill()
    workspace.removeNow()
  }
  process.on('exit', lastResort)
  out(`${name}: ${lab.title}\nin ${workspace.folder}\n`)
  try {
    await lab.play(stage)
    out(`\n${name}: all ${stage.checks} checks hold\n`)
    await options.stay?.(stage)
    return { code: 0, ...outcome() }
  } catch (error) {
    if (signal.aborted) throw signal.reason
    workspace.keepLogs = true
    out(`\nfailed: ${name}: ${transcript.step}: ${(error as Error).message}\n  logs: ${workspace.logs}\n`)
    return { code: 1, ...outcome() }
  } finally {
    await stage[Symbol.asyncDispose]()
    await workspace[Symbol.asyncDispose]()
    process.off('exit', lastResort)
  }
}

/** @returns folders for PATH, or the first thing that is missing */
export async function meetNeeds (
  { needs }: Pick<Lab, 'needs'>, environment: Environment
): Promise<{ folders: string[] } | { reason: string }> {
  const folders = []
  for (const need of needs) {
    try {
      const folder = await need.find(environment)
      if (folder !== undefined) folders.push(folder)
    } catch (error) {
      return { reason: (error as Error).message }
    }
  }
  return { folders }
}
