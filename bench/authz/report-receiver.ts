import { readFileSync } from 'node:fs'
import { recordProxyDecision } from '../../src/agent/proxy-decisions.ts'
import { openRecorder } from '../../src/authz/decision-log/open-recorder.ts'
import { PolicyEngine } from '../../src/authz/policy/policy-engine.ts'
import { readPolicies } from '../../src/authz/policy/read-policies.ts'
import { reportHandlers } from '../../src/mesh/decisions/report-handlers.ts'
import { bind, openRpcServer } from '../../src/rpc/server.ts'
import { systemClock } from '../../src/runtime/clock.ts'
import { silentLogger } from '../../src/runtime/logger.ts'
import { createMetrics } from '../../src/runtime/metrics.ts'
import { accessLogService } from '../../src/wire/generated/envoy-access-log-service.ts'

/**
 * The part of an agent that a node's proxy tells of its decisions. Says `ready`, and how many it has written down whenever it reads
 * something.
 */
const [policies = '', path = ''] = process.argv.slice(2)
const engine = new PolicyEngine(readPolicies([{ name: 'bench', text: readFileSync(policies, 'utf8') }]))
const state = { kind: 'set', version: 1, revision: engine.set.revision, engine } as const
const { log } = openRecorder({ mask: [] }, { clock: systemClock, log: silentLogger, metrics: createMetrics({ prefix: 'bench' }) })
let count = 0
const rpc = openRpcServer({
  services: [bind(accessLogService, reportHandlers({
    admit: async () => {}, stopping: new AbortController().signal,
    onReport (report) {
      count++
      recordProxyDecision(report, { policies: { state }, log, decisions: 'all' })
    }
  }))],
  log: silentLogger,
  clock: systemClock
})
await rpc.listenUnix({ path })
process.stdout.write('ready\n')
process.stdin.on('data', () => process.stdout.write(`${count}\n`)).on('close', () => process.exit())
