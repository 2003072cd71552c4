import { hostname } from 'node:os'
import t from 'tap'
import { spireCallMetrics, spireCallName } from '../../src/rpc/spire-call-metrics.ts'
import { createMetrics } from '../../src/runtime/metrics.ts'
import { testTelemetry } from '../fakes/telemetry.ts'

void t.test('calls have SPIRE\'s names (spire-surface §10.1)', async t => {
  for (const [path, name] of Object.entries({
    '/spire.api.server.agent.v1.Agent/AttestAgent': 'rpc.agent.v1.agent.attest_agent',
    '/spire.api.server.svid.v1.SVID/BatchNewX509SVID': 'rpc.svid.v1.svid.batch_new_x509svid',
    '/spire.api.server.svid.v1.SVID/NewJWTSVID': 'rpc.svid.v1.svid.new_jwtsvid',
    '/spire.api.server.localauthority.v1.LocalAuthority/GetX509AuthorityState':
      'rpc.localauthority.v1.local_authority.get_x509_authority_state',
    '/spire.api.server.debug.v1.Debug/GetInfo': 'rpc.debug.v1.debug.get_info',
    '/logger.v1.Logger/GetLogger': 'rpc.logger.get_logger',
    '/spire.api.agent.logger.v1.Logger/GetLogger': 'rpc.logger.get_logger',
    '/spire.api.agent.delegatedidentity.v1.DelegatedIdentity/FetchJWTSVIDs': 'rpc.delegated_identity.fetch_jwtsvi_ds',
    '/spire.api.agent.delegatedidentity.v1.DelegatedIdentity/SubscribeToX509SVIDs': 'rpc.delegated_identity.subscribe_to_x509_svids',
    '/SpiffeWorkloadAPI/FetchX509SVID': 'rpc.workload_api.fetch_x509svid',
    '/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets': 'rpc.sds.v3.stream_secrets',
    '/grpc.health.v1.Health/Check': 'rpc.health.check'
  })) t.equal(spireCallName(path), name)
})

void t.test('they are counted and measured beside our own', async t => {
  const metrics = createMetrics({ prefix: 'assay_server' })
  const tell = spireCallMetrics(testTelemetry({}, { beside: metrics }))
  const call = {
    method: '/spire.api.server.agent.v1.Agent/AttestAgent', isStream: false, requestId: 'r', caller: undefined, context: undefined
  }
  tell({ ...call, status: 'OK', durationMs: 7 })
  tell({ ...call, status: 'OK', durationMs: 9 })
  tell({ ...call, status: 'PERMISSION_DENIED', durationMs: 1 })
  tell({ ...call, status: 'CANCELLED', durationMs: 1 })
  const stream = { ...call, method: '/SpiffeWorkloadAPI/FetchX509SVID', isStream: true }
  tell({ ...stream, status: 'CANCELLED', durationMs: 9 })
  tell({ ...stream, status: 'PERMISSION_DENIED', durationMs: 9 })
  const lines = (await metrics.expose()).split('\n')
  for (const line of [
    '# TYPE spire_server_rpc_agent_v1_agent_attest_agent counter',
    `spire_server_rpc_agent_v1_agent_attest_agent{status="OK",host="${hostname()}"} 2`,
    `spire_server_rpc_agent_v1_agent_attest_agent{status="PermissionDenied",host="${hostname()}"} 1`,
    `spire_server_rpc_agent_v1_agent_attest_agent{status="Canceled",host="${hostname()}"} 1`,
    `spire_server_rpc_workload_api_fetch_x509svid{status="OK",host="${hostname()}"} 1`,
    `spire_server_rpc_workload_api_fetch_x509svid{status="PermissionDenied",host="${hostname()}"} 1`,
    '# TYPE spire_server_rpc_agent_v1_agent_attest_agent_elapsed_time summary',
    `spire_server_rpc_agent_v1_agent_attest_agent_elapsed_time_sum{status="OK",host="${hostname()}"} 16`,
    `spire_server_rpc_agent_v1_agent_attest_agent_elapsed_time_count{status="OK",host="${hostname()}"} 2`
  ]) t.ok(lines.includes(line), line)
  t.notOk(lines.some(line => line.startsWith('spire_server_process')), 'of the process there is one set')
  t.match(lines.find(line => line.startsWith('assay_server_process_resident')), /\d/)
})
