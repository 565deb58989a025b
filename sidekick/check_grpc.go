package sidekick

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// parseGRPC makes the check that asks grpc.health.v1 for service, without TLS.
// Empty means the server as a whole.
func parseGRPC(service, addr string) (func(context.Context) error, error) {
	return func(ctx context.Context) error {
		err := checkGRPC(ctx, addr, service)
		if ctx.Err() != nil {
			return ctx.Err() // grpc has words of its own for it
		}
		return err
	}, nil
}

// checkGRPC makes a new connection each time, as the check by HTTP does.
func checkGRPC(ctx context.Context, addr, service string) error {
	conn, err := grpc.NewClient("passthrough:///"+addr,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithNoProxy(), grpc.WithDisableServiceConfig(), grpc.WithUserAgent("muster-sidekick"))
	if err != nil {
		return err
	}
	defer conn.Close()
	resp, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{Service: service})
	switch s := status.Convert(err); s.Code() {
	case codes.OK:
	case codes.Unimplemented:
		return fmt.Errorf("the app does not speak grpc.health.v1: %s", s.Message())
	default:
		return fmt.Errorf("%v: %s", s.Code(), s.Message())
	}
	if resp.Status != healthpb.HealthCheckResponse_SERVING {
		return fmt.Errorf("got status %v: want SERVING", resp.Status)
	}
	return nil
}
