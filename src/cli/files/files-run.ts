import type { ChildProgram } from '../../files/child-program.ts'
import { systemClock } from '../../runtime/clock.ts'
import { defineCommand, type ExitCode } from '../command.ts'
import { switchFlag } from '../flag.ts'
import { openLog } from '../open-log.ts'
import { fetchFiles } from './fetch-files.ts'
import { filesConfigFlags, readFilesConfig } from './files-config-flags.ts'

const forwarded = ['SIGHUP', 'SIGUSR1', 'SIGUSR2', 'SIGQUIT', 'SIGWINCH'] as const
const usualTimeoutMs = 60_000

export const filesRun = defineCommand({
  flags: {
    once: switchFlag('write the files once and end, as -daemon-mode=false'),
    'daemon-mode': switchFlag('keep the files up to date; false: write them once and end', { orUnset: true }),
    ...filesConfigFlags
  },
  details: 'Writes SVIDs, keys and bundles into files, keeps them up to date, and has the program that reads them reload. It takes the\n' +
    'configuration of spiffe-helper; see docs/files.md. Exit code: 0 stopped by a signal, or with exit_with_cmd the program\'s own.',
  examples: [
    'assay files run -config helper.conf', 'assay files run -config files.yaml -once',
    'assay files run -config helper.conf -daemon-mode=false'
  ],
  async run ({ flags, terminal }) {
    const config = await readFilesConfig(flags.once ? { ...flags, 'daemon-mode': false } : flags, terminal)
    const log = openLog(config, terminal.signal)
    if (!config.daemon) {
      for (const warning of config.warnings) log.warn(warning)
      const report = await fetchFiles(config, usualTimeoutMs, terminal.signal)
      log.info(report, 'files written')
      return 0
    }
    const [{ runFiles }, { openUnixChannel }, { createMetrics }] = await Promise.all([
      import('../../files/run-files.ts'), import('../../rpc/channel.ts'), import('../../runtime/metrics.ts')
    ])
    await using channel = openUnixChannel(config.socketPath)
    const metrics = config.prometheus === undefined ? undefined : createMetrics({ prefix: 'assay_files' })
    const code = await runFiles(config, {
      channel, clock: systemClock, random: Math.random, log, metrics,
      onChild: passSignals,
      stopSignal: () => /SIGINT/.test(String(terminal.signal.reason)) ? 'SIGINT' : 'SIGTERM'
    }, terminal.signal)
    // Of the program it may be any.
    return code as ExitCode
  }
})

/** The program behind us is to get what is meant for it. */
function passSignals (child: ChildProgram): void {
  for (const name of forwarded) process.on(name, () => child.forward(name))
}
