import t from 'tap'
import { noEnvoy } from '../fakes/envoy.ts'
import { postgresMissing } from '../fakes/postgres.ts'
import { replicaRounds } from './replica-rounds.ts'

const skip = postgresMissing() || noEnvoy()

t.test('three replicas under mTLS load: killed, cut off, paused, without their database', { skip, timeout: 240_000 }, t =>
  replicaRounds(t, { kills: [0], pauses: 1, caTtl: '24h', lost: 'another' }))
