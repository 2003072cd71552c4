import { systemClock } from '../../runtime/clock.ts'
import { isStop } from '../../runtime/tasks.ts'
import { defineCommand } from '../command.ts'
import { openLog } from '../open-log.ts'
import { controllerConfigFlags, readControllerConfig } from './controller-config-flags.ts'

export const controllerRun = defineCommand({
  flags: controllerConfigFlags,
  details: 'Makes entries for the pods that ClusterSPIFFEIDs select, entries as ClusterStaticEntries say, and relationships with trust\n' +
    'domains as ClusterFederatedTrustDomains say. It changes and removes only what it made. Of several controllers of one class one\n' +
    'leads, by a Lease. The keys of the file are spire-controller-manager\'s; see docs/controller.md.',
  examples: [
    'assay controller run -config controller.yaml',
    'assay controller run -trustDomain example.org -clusterName demo -kubeconfig ~/.kube/config'
  ],
  async run ({ flags, terminal }) {
    const { config, socketPath } = await readControllerConfig(flags, terminal)
    const log = openLog(config, terminal.signal)
    const [{ runController }, { createMetrics }] = await Promise.all([
      import('../../controller/controller.ts'), import('../../runtime/metrics.ts')
    ])
    const metrics = createMetrics({ prefix: 'assay_controller' })
    try {
      await runController(config, { socketPath, clock: systemClock, log, metrics }, terminal.signal)
    } catch (error) {
      if (!isStop(error, terminal.signal)) throw error
    }
    log.info('controller has stopped')
    return 0
  }
})
