//! Simulation of engines over a lossy network with a fake clock.
